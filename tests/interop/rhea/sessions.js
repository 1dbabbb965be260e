// Opens `sessions` sessions, each with a receiver and a sender for an address of its own, and counts what comes.
'use strict';
const { rhea, options, connect } = require('./connection.js');

const came = new Set();
const sent = new Set();
rhea.on('sendable', (context) => {
    const address = context.sender.target.address;
    if (!sent.has(address)) context.sender.send({ body: address });
    sent.add(address);
});
rhea.on('message', (context) => {
    if (context.message.body === context.receiver.source.address) came.add(context.message.body);
    if (came.size === options.sessions) {
        console.log(came.size, 'of', options.sessions);
        context.connection.close();
    }
});
const connection = connect();
for (let number = 0; number < options.sessions; number += 1) {
    const session = connection.create_session();
    session.begin();
    session.open_receiver(`${options.address}/${number}`);
    session.open_sender(`${options.address}/${number}`);
}
