// Says hello to itself through an address.
'use strict';
const { rhea, options, connect } = require('./connection.js');

rhea.on('message', (context) => {
    console.log(context.message.body);
    context.connection.close();
});
rhea.once('sendable', (context) => context.sender.send({ body: 'Hello' }));
const connection = connect();
connection.open_receiver(options.address);
connection.open_sender(options.address);
