"""Training: tokens a second of language models of each architecture with the same number of weights, in float32.

    python bench/bench_family.py [--rounds 2] [--clock cpu]

All have the same vocabulary, tied weights and three layers, and one width of each is chosen so that the weights of the encoders are the same to a hundredth. One step is forward, loss with AR and TAR, backward and AdamW
on windows of the same shape. Each architecture runs in a process of its own, and they take turns."""
from sides import main, ratio, seconds, take_turns

VOCAB, BS, BPTT, WEIGHTS = 10000, 32, 70, 6_000_000
rnn, tfm = dict(emb_sz=256, n_layers=3), dict(n_layers=3, n_heads=4, d_model=256, d_head=64, ctx_len=128, init=None)
# Architecture, its configuration, and the entry that is chosen
FAMILY = dict(awd_lstm=('AWD_LSTM', rnn, 'n_hid'), awd_qrnn=('AWD_LSTM', dict(rnn, qrnn=True), 'n_hid'), tfmer=('Transformer', tfm, 'd_inner'),
    tfmerXL=('TransformerXL', dict(tfm, mem_len=128), 'd_inner'), gru=('SimpleGRU', rnn, 'n_hid'))


def encoder_weights(arch, config):
    "Number of weights of an encoder without its words"
    import torch
    from textnb.models import get_language_model
    with torch.device('meta'): enc = get_language_model(arch, VOCAB, config)[0]
    return sum(p.numel() for p in enc.parameters())-enc.encoder.weight.numel()


def equal_config(name):
    "The configuration of `name` with as many weights as all others"
    arch, config, entry = FAMILY[name]
    lo, hi = 1, 32768
    while hi-lo > 1:
        mid = (lo+hi)//2
        lo, hi = (mid, hi) if encoder_weights(arch, {**config, entry: mid}) <= WEIGHTS else (lo, mid)
    return {**config, entry: lo-lo%4}


def side(name):
    "A function that measures the architecture `name`"
    def measure():
        import torch
        from textnb.train import CrossEntropyFlat, AdamW
        from textnb.models import get_language_model
        torch.manual_seed(0)
        config, loss_func = equal_config(name), CrossEntropyFlat()
        model = get_language_model(FAMILY[name][0], VOCAB, config).train()
        opt = AdamW(model.parameters(), lr=1e-3)
        ids = (VOCAB**torch.rand(BS, BPTT+1)).long().clamp(max=VOCAB-1)
        def step():
            opt.zero_grad()
            decoded, raws, outs = model(ids[:, :-1])
            h = raws[-1]
            (loss_func(decoded, ids[:, 1:])+2*outs[-1].pow(2).mean()+(h[:, 1:]-h[:, :-1]).pow(2).mean()).backward()
            opt.step()
        n = sum(p.numel() for p in model[0].parameters())-model[0].encoder.weight.numel()
        return {'train_tokens_s': BS*BPTT/seconds(step), 'million_weights': n/1e6, FAMILY[name][2]: config[FAMILY[name][2]]}
    return measure


SIDES = {name: side(name) for name in FAMILY}


def run(peer=None, rounds=1)->dict:
    "Figures of all architectures, and how many times as fast as AWD-LSTM each is trained"
    res = take_turns(__file__, SIDES, rounds=rounds)
    res['times_of_awd_lstm'] = {k: ratio(res[k], res['awd_lstm'])['train_tokens_s'] for k in SIDES}
    return res


if __name__ == '__main__': main(__doc__, run, SIDES)
