// Sends `bodies` and prints the outcome of each; pre-settled ones if `settled`; with exactly-once if `second`.
'use strict';
const { rhea, options, connect } = require('./connection.js');

const bodies = options.bodies.slice();
const waiting = new Map();

function close_when_done(context) {
    if (bodies.length === 0 && waiting.size === 0) context.connection.close();
}
rhea.on('sendable', (context) => {
    while (bodies.length && context.sender.sendable()) {
        const body = bodies.shift();
        const delivery = context.sender.send({ body });
        if (options.settled) console.log(body, 'sent settled');
        else waiting.set(delivery.id, body);
    }
    close_when_done(context);
});
for (const outcome of ['accepted', 'rejected', 'released', 'modified']) {
    rhea.on(outcome, (context) => {
        const error = ((context.delivery.remote_state || {}).error || {}).condition;
        const body = waiting.get(context.delivery.id);
        waiting.delete(context.delivery.id);
        console.log(body, outcome, ...(error ? [error] : []), context.delivery.remote_settled ? 'settled' : 'unsettled');
        context.delivery.update(true);
        close_when_done(context);
    });
}
connect().open_sender({ target: options.address, autosettle: false, treat_modified_as_released: false, snd_settle_mode: options.settled ? 1 : 0,
    rcv_settle_mode: options.second ? 1 : 0 });
