// Connects by the options in the first argument: port, transport (tcp, tls), or websocket with its url and protocols;
// ca, cert, key; username, password; max_frame_size, idle_time_out. Whatever keeps us out is printed.
'use strict';
const fs = require('fs');
const rhea = require('rhea');

const options = JSON.parse(process.argv[2]);
const read = (path) => path && fs.readFileSync(path);
const tls = { ca: read(options.ca), cert: read(options.cert), key: read(options.key), servername: 'localhost' };

function connect() {
    const chosen = { port: options.port, host: 'localhost', reconnect: false, transport: options.transport,
        username: options.username, password: options.password, max_frame_size: options.max_frame_size,
        idle_time_out: options.idle_time_out,
        enable_sasl_external: Boolean(options.cert), ...(options.ca ? tls : {}) };
    if (options.websocket) {
        const ws = rhea.websocket_connect(require('ws'));
        chosen.connection_details = ws(options.websocket, options.protocols || ['amqp'], options.ca ? tls : undefined);
        if (options.cert) { // rhea sees no TLS below a WebSocket, and has to be told
            chosen.sasl_mechanisms = rhea.sasl.client_mechanisms();
            chosen.sasl_mechanisms.enable_external();
        }
    }
    return rhea.connect(chosen);
}

rhea.on('connection_error', (context) => console.log('connection error', (context.connection.error || context.error).condition));
rhea.on('connection_close', (context) => context.connection.close());
rhea.on('receiver_error', (context) => console.log('receiver error', context.receiver.error.condition));
rhea.on('sender_error', (context) => console.log('sender error', context.sender.error.condition));
rhea.on('disconnected', (context) => console.log('disconnected', (context.error || {}).code || ''));
rhea.on('error', (error) => console.log('error', error.message));

module.exports = { rhea, options, connect };
