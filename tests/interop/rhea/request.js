// Sends `bodies` as requests, one after another, and prints the answers that come to a dynamic address.
'use strict';
const { rhea, options, connect } = require('./connection.js');

const bodies = options.bodies.slice();
const connection = connect();
const replies = connection.open_receiver({ source: { dynamic: true } });
let sender;

function next() {
    sender.send({ reply_to: replies.source.address, correlation_id: bodies.length, body: bodies.shift() });
}
rhea.once('receiver_open', () => {
    sender = connection.open_sender(options.address);
    sender.once('sendable', next);
});
rhea.on('message', (context) => {
    console.log(context.message.body);
    if (bodies.length) next();
    else context.connection.close();
});
