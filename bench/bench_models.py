"""Speed of the models: AWD-LSTM 400/1152/3 in training and as a classifier, beside a bare `nn.LSTM` stack and, if an interpreter is given, fastai 2.8.12.

    python bench/bench_models.py [--peer PYTHON_WITH_FASTAI] [--rounds 1] [--clock cpu]

Each side runs in a process of its own, and the processes take turns, so that a busy machine slows all of them alike.
On a machine that others use, too, `OMP_NUM_THREADS=1` and `--clock cpu` (processor time in place of wall time) give steadier ratios."""
from sides import main, seconds, take_turns

VOCAB, BS, BPTT, HID = 30000, 64, 70, (400, 1152, 1152, 400)
DOCS, SHORT = (64, 20, 300), 15  # documents, shortest and longest; words of the short text


def windows():
    "One window of a stream of words drawn by Zipf's law, and its targets"
    import torch
    ids = (VOCAB**torch.rand(BS, BPTT+1, generator=torch.Generator().manual_seed(0))).long().clamp(max=VOCAB-1)
    return ids[:,:-1], ids[:,1:]


def documents():
    "Padded batch of documents of many lengths, longest first, as both libraries' loaders make them"
    import torch
    n, lo, hi = DOCS
    lens = torch.linspace(hi, lo, n).long()
    gen = torch.Generator().manual_seed(0)
    return [torch.randint(9, VOCAB, (l,), generator=gen) for l in lens]


def step(model, opt, loss_of):
    "A function that does one whole training step: forward, loss, regularisers, backward, optimizer"
    x, y = windows()
    def run():
        opt.zero_grad()
        loss_of(*model(x), y).backward()
        opt.step()
    return run


def lm_loss(cross_entropy):
    "A library's cross-entropy, with activation regularisation (alpha 2) and its temporal form (beta 1)"
    def loss(decoded, raws, outs, y):
        raw, out = raws[-1].float(), outs[-1].float()
        return cross_entropy(decoded, y) + 2*out.pow(2).mean() + (raw[:,1:]-raw[:,:-1]).pow(2).mean()
    return loss


def side_textnb():
    "Figures of this package"
    import torch
    from textnb.train import CrossEntropyFlat, AdamW
    from textnb.models import AWD_LSTM, get_language_model, get_text_classifier
    torch.manual_seed(0)
    model = get_language_model(AWD_LSTM, VOCAB)
    opt = AdamW(model.parameters(), lr=1e-3)
    res = {'lm_float32_tokens_s': BS*BPTT/seconds(step(model, opt, lm_loss(CrossEntropyFlat())), 1)}
    def half(x):
        with torch.autocast('cpu', torch.bfloat16): return model(x)
    res['lm_bfloat16_tokens_s'] = BS*BPTT/seconds(step(half, opt, lm_loss(CrossEntropyFlat())), 1)
    model = opt = None
    clas = get_text_classifier(AWD_LSTM, VOCAB, 2).eval()
    docs = documents()
    batch = torch.nn.utils.rnn.pad_sequence(docs, batch_first=True, padding_value=1)
    short = docs[0][None,:SHORT]
    with torch.no_grad():
        res['clas_docs_s'] = len(docs)/seconds(lambda: clas(batch), 1)
        res['one_text_ms'] = 1000*seconds(lambda: clas(short), 10)
    return res


def side_nn_lstm():
    "Figures of a bare `nn.LSTM` stack of the same sizes, neither embedding nor decoder"
    import torch
    torch.manual_seed(0)
    rnns = torch.nn.ModuleList([torch.nn.LSTM(i, o, batch_first=True) for i, o in zip(HID, HID[1:])])
    x = torch.randn(BS, BPTT, HID[0])
    def train():
        h = x
        for r in rnns: h, _ = r(h)
        h.sum().backward()
    return {'bare_float32_tokens_s': BS*BPTT/seconds(train, 1)}


def side_fastai():
    "Figures of fastai"
    import torch
    from fastai.text.all import AWD_LSTM, Adam, CrossEntropyLossFlat, get_language_model, get_text_classifier, pad_chunk
    torch.manual_seed(0)
    model = get_language_model(AWD_LSTM, VOCAB)
    model.reset()
    opt = Adam([list(model.parameters())], 1e-3, wd=0.01)
    def forward(x):
        decoded, raw, out = model(x)
        return decoded, [raw], [out]
    res = {'lm_float32_tokens_s': BS*BPTT/seconds(step(forward, opt, lm_loss(CrossEntropyLossFlat())), 1)}
    model = opt = None
    clas = get_text_classifier(AWD_LSTM, VOCAB, 2, seq_len=72, max_len=1440).eval()
    docs = documents()
    longest = max(map(len, docs))
    batch = torch.stack([pad_chunk(d, pad_idx=1, pad_first=True, seq_len=72, pad_len=longest) for d in docs])
    short = docs[0][None,:SHORT]
    def run(x):
        clas.reset()
        return clas(x)
    with torch.no_grad():
        res['clas_docs_s'] = len(docs)/seconds(lambda: run(batch), 1)
        res['one_text_ms'] = 1000*seconds(lambda: run(short), 10)
    return res


SIDES = dict(textnb=side_textnb, nn_lstm=side_nn_lstm, fastai=side_fastai)


def run(peer=None, rounds=1)->dict:
    "Figures of all sides, and ratios (above 1 is better) to `peer`, an interpreter that has fastai 2.8.12"
    res = take_turns(__file__, ['textnb', 'nn_lstm'], peer, rounds)
    if peer: res['ratio']['lm_bfloat16_tokens_s'] = res['textnb']['lm_bfloat16_tokens_s']/res['fastai']['lm_float32_tokens_s']
    return res


if __name__ == '__main__': main(__doc__, run, SIDES)
