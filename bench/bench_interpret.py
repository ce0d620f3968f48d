"""Explanations while one types: milliseconds of each kind, the 95th percentile over many events, for three sizes of AWD-LSTM.

    OMP_NUM_THREADS=1 python bench/bench_interpret.py [--rounds 1] [--clock cpu]

`append` types a word at the end of a text that grows to 100 tokens (150 for the full size) and gets prediction, its history and LRP; `edit_N` changes the word in the middle of N tokens, and
`typed_running_100` types one and asks for the running difference. The others are of texts that were not read before: `running_N`, `loo_50` (leave-one-out by reading only what stands behind each word),
`grad_x_input_100` and `ig16_50` (16 steps). Untrained weights, 3 layers; `LiveText` pins itself to one thread.
Beside each figure stand `_bare_ms`, the same percentile of the matrix products that it cannot do without, as PyTorch does them and nothing else, on this machine in the same run, and `_over_bare`, how many times that the figure is:
where a bound is missed, they say whether the machine or the code is short."""
import os
import tempfile
import time

from sides import main, take_turns

SIZES = dict(tiny=dict(emb_sz=100, n_hid=300), teaching=dict(emb_sz=300, n_hid=600), full=dict(emb_sz=400, n_hid=1152))
EVENTS, FEW = 50, 15
# milliseconds: the bound of each figure for each size
BOUNDS = dict(tiny=dict(append=20, edit_100=40, running_100=10, grad_x_input_100=20, ig16_50=100, loo_50=100),
    teaching=dict(append=35, edit_100=80, running_100=35, grad_x_input_100=60, ig16_50=350, loo_50=400),
    full=dict(append=100, edit_20=100, edit_100=300, running_50=100, grad_x_input_100=300, ig16_50=1500, loo_50=1300))
GOALS = [('interpret', size, f'{k}_ms', -v, f'{k.replace("_", " ")} tokens, {size} size: at most {v} ms' if k!='append' else f'a typed word, {size} size: at most {v} ms')
    for size, bounds in BOUNDS.items() for k, v in bounds.items()]


def p95(f, n):
    "95th percentile of the milliseconds of `n` calls of `f(i)`, after one that does not count; with BENCH_CLOCK=cpu, processor time"
    clock = time.process_time if os.environ.get('BENCH_CLOCK')=='cpu' else time.perf_counter
    f(-1)
    times = []
    for i in range(n):
        t = clock()
        f(i)
        times.append(clock()-t)
    return 1000*sorted(times)[min(n-1, int(.95*n))]


def make_learner(config, words):
    "An untrained classifier that knows `words`"
    import pandas as pd
    import torch
    from textnb.all import AWD_LSTM, TextClasDataBunch, text_classifier_learner
    torch.manual_seed(0)
    df = pd.DataFrame(dict(label=['a', 'b']*50, text=[' '.join(words[60*i:60*i+60]) for i in range(100)]))
    data = TextClasDataBunch.from_df(tempfile.gettempdir(), df[:90], df[90:], text_cols='text', label_cols='label', bs=16, min_freq=1)
    return text_classifier_learner(data, AWD_LSTM, config=dict(n_layers=3, **config), pretrained=False, silent=True)


def products(config, ahead, back=(), gates=4):
    "For each layer one product of all inputs and one a step, of as many rows as `ahead` has for it; then the same for `back`: gradients go through four `gates`, LRP through one"
    import torch
    import torch.nn.functional as F
    sizes = [config['emb_sz'], config['n_hid'], config['n_hid'], config['emb_sz']]
    layers = [(torch.randn(4*n, m), torch.randn(4*n, n), torch.randn(max(sum(ahead), sum(back)), max(m, 4*n)), m, n) for m, n in zip(sizes, sizes[1:])]
    def run(_):
        with torch.inference_mode():
            for w_in, w_h, x, m, n in layers:
                F.linear(x[:sum(ahead), :m], w_in)
                for rows in ahead: F.linear(x[:rows, :n], w_h)
            for w_in, w_h, x, m, n in reversed(layers):
                for rows in back: x[:rows, :gates*n]@w_h[:gates*n]
                if back: x[:sum(back), :gates*n]@w_in[:gates*n]
    return run


def side(size):
    "Figures of one size"
    import numpy as np
    from textnb.explain import attribute, LiveText
    words = [f'w{i}' for i in np.random.default_rng(0).integers(0, 3000, 6000)]
    learn = make_learner(SIZES[size], words)
    engine, top = LiveText(learn), 150 if size=='full' else 100
    def text(n, change=None):
        w = words[:n-1]
        if change is not None: w[n//2] = words[1000+change]
        return ' '.join(w)
    def cold(n, method, **options): return lambda i: attribute(learn, text(n, i), method, **options)
    def unread(n, method):
        def run(i):
            engine.clear()
            engine.update(text(n, i), method=method)
        return run
    res = {}
    def measure(name, f, n, ahead, back=(), gates=4):
        took, bare = p95(f, n), p95(products(SIZES[size], ahead, back, gates), n)
        res.update({f'{name}_ms': took, f'{name}_bare_ms': bare})
    measure('append', lambda i: engine.update(text(top-EVENTS+i+1)), EVENTS, [1], [1]*top, 1)
    measure('typed_running_100', lambda i: engine.update(text(101-EVENTS+i), method='running difference'), EVENTS, [1])
    for n in (20, 100): measure(f'edit_{n}', lambda i, n=n: engine.update(text(n, i)), EVENTS, [1]*(n//2), [1]*n, 1)
    for n in (50, 100): measure(f'running_{n}', unread(n, 'running difference'), EVENTS, [1]*n)
    measure('loo_50', unread(50, 'occlusion'), FEW, range(1, 51))
    measure('grad_x_input_100', cold(100, 'gradient x input'), FEW, [1]*100, [1]*100)
    measure('ig16_50', cold(50, 'integrated gradients', steps=16, max_steps=16), FEW, [16]*50, [16]*50)
    return res


SIDES = {s: (lambda s=s: side(s)) for s in SIZES}


def run(peer=None, rounds=1)->dict:
    "Figures of each size"
    res = take_turns(__file__, SIDES, rounds=rounds)
    for o in res.values(): o |= {k.replace('_bare_ms', '_over_bare'): o[k.replace('_bare_ms', '_ms')]/v for k, v in o.items() if k.endswith('_bare_ms')}
    return res


if __name__ == '__main__': main(__doc__, run, SIDES)
