// Receives `count` messages and gives each the outcome that `outcomes` has for its body.
'use strict';
const { rhea, options, connect } = require('./connection.js');

let left = options.count;

function done(context) {
    left -= 1;
    if (left === 0) context.connection.close();
}
rhea.once('receiver_open', () => console.log('ready'));
rhea.on('message', (context) => {
    const { message, delivery } = context;
    const outcome = (options.outcomes || {})[message.body] || 'accepted';
    console.log('message', message.body, delivery.remote_settled ? 'settled' : 'unsettled');
    if (outcome === 'accepted') delivery.accept();
    if (outcome === 'rejected') delivery.reject({ condition: 'test:no-thanks', description: 'not wanted' });
    if (outcome === 'released') delivery.release();
    if (outcome === 'failed') delivery.modified({ delivery_failed: true });
    if (!options.second || delivery.remote_settled) done(context);
});
rhea.on('settled', (context) => {
    if (!context.receiver || !options.second) return;
    console.log('sender settled');
    context.delivery.update(true);
    done(context);
});
connect().open_receiver({ source: options.address, autoaccept: false, autosettle: !options.second,
    credit_window: options.credit || 10, rcv_settle_mode: options.second ? 1 : 0 });
