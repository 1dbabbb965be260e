// Answers `count` requests in capitals, through the anonymous terminus.
'use strict';
const { rhea, options, connect } = require('./connection.js');

let left = options.count;
const connection = connect();
const replies = connection.open_sender({ target: {} });
rhea.once('receiver_open', () => console.log('ready'));
rhea.on('message', (context) => {
    const { reply_to, correlation_id, body } = context.message;
    replies.send({ to: reply_to, correlation_id, body: body.toUpperCase() });
    left -= 1;
});
rhea.on('accepted', (context) => left === 0 && context.connection.close());
connection.open_receiver(options.address);
