"""The table of top losses with 25,000 rows: milliseconds of the kernel to open it and to turn a page, sort, search and open a row.

    OMP_NUM_THREADS=1 python bench/bench_tables.py

Texts of 5 to 80 words, random probabilities, an untrained AWD-LSTM of the small configuration for the open row. `open_ms` is the first page with its reasons (near-duplicates are looked for among all 25,000 texts and 2,000 training texts);
the widgets are built in it. `page_ms` is the 95th percentile of 50 pages."""
import tempfile
import time

from sides import main, take_turns

GOALS = [('tables', 'table', 'open_ms', -1000, 'top-loss table of 25,000 rows: open in 1 s'),
    ('tables', 'table', 'page_ms', -150, 'top-loss table of 25,000 rows: page change under 150 ms')]
ROWS = 25_000


def interpretation():
    "Random probabilities for 25,000 texts"
    import numpy as np
    import pandas as pd
    from textnb.all import AWD_LSTM, DatasetType, TextClasDataBunch, TextClassificationInterpretation, set_seed, text_classifier_learner
    from textnb.models import awd_lstm_small_clas_config
    r = np.random.default_rng(0)
    words = np.array([f'w{int(i)}' for i in range(8000)])
    share = 1/np.arange(1, 8001)
    texts = [' '.join(r.choice(words, r.integers(5, 80), p=share/share.sum())) for _ in range(ROWS+2000)]
    df = pd.DataFrame(dict(label=r.choice(['neg', 'pos'], len(texts)), text=texts))
    data = TextClasDataBunch.from_df(tempfile.mkdtemp(), df[:2000], df[2000:], text_cols='text', label_cols='label', min_freq=1, bs=32)
    set_seed(0)
    learn = text_classifier_learner(data, AWD_LSTM, config=awd_lstm_small_clas_config, pretrained=False, silent=True)
    return TextClassificationInterpretation.from_preds(learn, r.dirichlet([1, 1], ROWS).astype('float32'), DatasetType.Valid)


def side_table():
    "Figures of the panel"
    from textnb.panels import TopLossPanel
    TopLossPanel(interp := interpretation()).widget
    for k in ('_facts', '_alike', '_candidates'): setattr(interp, k, None)

    def ms(f):
        start = time.perf_counter()
        f()
        if panels and panels[0].error: raise panels[0].error
        return 1000*(time.perf_counter()-start)
    panels = []

    def first():
        panels.append(TopLossPanel(interp))
        panels[0].widget
    res = dict(open_ms=ms(first))
    panel = panels[0]
    res['page_ms'] = sorted(ms(lambda: panel.send('turn', 1)) for _ in range(50))[47]
    for name, event in dict(sort_ms=('sort', 'prob'), search_ms=('text', 'w77'), regex_ms=('regex', True), clear_ms=('clear', None)).items():
        res[name] = ms(lambda event=event: panel.send(*event))
    panel.send('open', panel.state['rows'][0]['row'])
    res['open_row_ms'] = sorted(ms(lambda i=i: panel.send('open', panel.state['rows'][i]['row'])) for i in range(1, 8))[3]
    return res


SIDES = dict(table=side_table)


def run(peer=None, rounds=1)->dict:
    "Figures of the table"
    return take_turns(__file__, SIDES, rounds=rounds)


if __name__ == '__main__': main(__doc__, run, SIDES)
