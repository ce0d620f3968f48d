"""QRNN beside LSTM: the encoder of AWD-LSTM with either layer, at the same sizes, in training and in inference.

    python bench/bench_qrnn.py [--rounds 1] [--clock cpu]

`lm` is a whole training step of a language model with 15,000 words, `encoder` the same without decoder and optimizer, `small` the configuration for CPUs. `clas` reads 32 documents of 20 to 300 words,
`long` one text of 10,000 words, `token` is a step of generation. Ratios are QRNN to LSTM. One core and processor time (`OMP_NUM_THREADS=1`, `--clock cpu`) give the steadiest ones."""
from sides import main, ratio, seconds, take_turns

VOCAB, BS, BPTT, LONG = 15000, 32, 70, 10000


def train(model, x, head=True):
    "A function that does one training step of `model`, or the two ways through its encoder"
    import torch.nn.functional as F
    from textnb.train import AdamW
    opt = AdamW(model.parameters(), lr=1e-3)
    def run():
        if not head: return model[0](x)[1][-1].sum().backward()
        opt.zero_grad()
        F.cross_entropy(model(x)[0].flatten(0, 1).float(), x.flatten()).backward()
        opt.step()
    return run


def side(full, small):
    "Figures of the encoder with the configurations `full` and `small`"
    import torch
    from textnb.models import AWD_LSTM, get_language_model, get_text_classifier
    torch.manual_seed(0)
    x, docs = torch.randint(9, VOCAB, (BS, BPTT)), torch.ones(BS, 300).long()
    for i, n in enumerate(torch.linspace(300, 20, BS).long()): docs[i,:n] = torch.randint(9, VOCAB, (n,))
    res = {}
    for name, cfg in (('', full), ('small_', small)):
        lm, n = get_language_model(AWD_LSTM, VOCAB, cfg), 1 if cfg is full else 3
        res[f'{name}lm_tokens_s'] = BS*BPTT/seconds(train(lm, x), n)
        res[f'{name}encoder_tokens_s'] = BS*BPTT/seconds(train(lm, x, head=False), n)
        half = train(lm, x)
        with torch.autocast('cpu', torch.bfloat16): res[f'{name}lm_bfloat16_tokens_s'] = BS*BPTT/seconds(half, n)
        clas = get_text_classifier(AWD_LSTM, VOCAB, 2, config={k: v for k, v in cfg.items() if k not in ('tie_weights', 'out_bias')}).eval()
        with torch.inference_mode():
            state = lm.eval().step(x[:1])[1]
            res[f'{name}clas_tokens_s'] = (docs!=1).sum().item()/seconds(lambda: clas(docs), n)
            res[f'{name}long_tokens_s'] = LONG/seconds(lambda: lm[0](x.flatten().repeat(5)[None,:LONG]), 1)
            res[f'{name}one_text_ms'] = 1000*seconds(lambda: clas(docs[:1,:15]), 20)
            res[f'{name}token_ms'] = 1000*seconds(lambda: lm[0](x[:1,:1], state), 50)
    return res


def side_lstm():
    "Figures of LSTM layers"
    from textnb.models import awd_lstm_lm_config, awd_lstm_small_lm_config
    return side(awd_lstm_lm_config, awd_lstm_small_lm_config)


def side_qrnn():
    "Figures of QRNN layers"
    from textnb.models import awd_qrnn_lm_config, awd_qrnn_small_lm_config
    return side(awd_qrnn_lm_config, awd_qrnn_small_lm_config)


SIDES = dict(lstm=side_lstm, qrnn=side_qrnn)


def run(peer=None, rounds=1)->dict:
    "Figures of both layers and the ratio of QRNN to LSTM; `peer` is not needed"
    res = take_turns(__file__, ['lstm', 'qrnn'], rounds=rounds)
    return {**res, 'ratio': ratio(res['qrnn'], res['lstm'])}


if __name__ == '__main__': main(__doc__, run, SIDES)
