// Opens, is silent for `silence` milliseconds, and then says hello to itself.
'use strict';
const { rhea, options, connect } = require('./connection.js');

rhea.on('message', (context) => {
    console.log(context.message.body);
    context.connection.close();
});
rhea.once('sendable', (context) => {
    setTimeout(() => context.sender.send({ body: 'Hello after the silence' }), options.silence);
});
const connection = connect();
connection.open_receiver(options.address);
connection.open_sender(options.address);
