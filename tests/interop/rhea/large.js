// Sends itself one message of `size` octets through an address and compares.
'use strict';
const { rhea, options, connect } = require('./connection.js');

const body = rhea.message.data_section(Buffer.alloc(options.size, 'van, pieces of '));
rhea.on('message', (context) => {
    const came = context.message.body.content;
    console.log(came.length, came.equals(body.content) ? 'the same' : 'different');
    context.connection.close();
});
rhea.once('sendable', (context) => context.sender.send({ body }));
const connection = connect();
connection.open_receiver(options.address);
connection.open_sender(options.address);
