// Gives credit for 10 and drains it, over and over until `count` messages have come.
'use strict';
const { rhea, options, connect } = require('./connection.js');

let received = 0;
rhea.once('receiver_open', (context) => {
    console.log('ready');
    context.receiver.drain = true;
    context.receiver.add_credit(10);
});
rhea.on('message', (context) => {
    received += 1;
    console.log(context.message.body);
});
rhea.on('receiver_drained', (context) => {
    console.log('drained, credit', context.receiver.credit);
    if (received >= options.count) context.connection.close();
    else setTimeout(() => context.receiver.add_credit(10), 20);
});
connect().open_receiver({ source: options.address, credit_window: 0 });
