"""Serving a classifier: documents a second of `get_preds` and the latency of `predict` on one short text, beside fastai 2.8.12 if an interpreter is given.

    python bench/bench_predict.py [--peer PYTHON_WITH_FASTAI] [--rounds 2]

textnb also times the small English model of its package (`small_…`): its weights, a short prediction, and the tokens of that text.

Both sides read the same table of docstrings, tokenize it themselves, and run an untrained AWD-LSTM 400/1152/3 with its classifier head. Each side runs in a process of its own and they take turns."""
import csv
import os
import tempfile

from sides import main, seconds, take_turns

N_TRAIN, N_VALID, BS = 300, 256, 64
SMALL = dict(emb_sz=192, n_hid=512, n_layers=2)
SHORT = 'A short text of about fifteen words, such as a person might type into it.'


def write_table(path):
    "A table of docstrings with text, label and is_valid"
    from textnb.text import docstrings
    df = docstrings().sample(frac=1, random_state=0)[:N_TRAIN+N_VALID]
    with open(path, 'w', newline='', encoding='utf-8') as f:
        w = csv.writer(f)
        w.writerow(['text', 'label', 'is_valid'])
        for i, (t, l) in enumerate(zip(df.text, df.label)): w.writerow([t, l, i >= N_TRAIN])


def figures(get_preds, predict):
    "Documents a second of `get_preds` and milliseconds of `predict`"
    return {'get_preds_docs_s': N_VALID/seconds(get_preds), 'predict_ms': 1000*seconds(lambda: predict(SHORT), 12)}


def side_textnb(path):
    "Figures of this package"
    import pandas as pd
    from textnb.all import AWD_LSTM, TextClasDataBunch, text_classifier_learner
    from textnb.learn import find_pretrained
    df = pd.read_csv(path)
    data = TextClasDataBunch.from_df('.', df[~df.is_valid], df[df.is_valid], text_cols='text', label_cols='label', bs=BS)
    learn = text_classifier_learner(data, AWD_LSTM, pretrained=False)
    return figures(learn.get_preds, learn.predict) | small_figures(df, find_pretrained('AWD_LSTM', SMALL).path)


def small_figures(df, path):
    "Milliseconds of loading the small English model with all its words, of one short prediction, and of its tokens"
    from textnb.all import AWD_LSTM, TextClasDataBunch, load_archive, text_classifier_learner
    kw = dict(text_cols='text', label_cols='label', bs=BS, vocab=load_archive(path).meta['vocab'])
    data = TextClasDataBunch.from_df('.', df[~df.is_valid], df[df.is_valid], **kw)
    def made(pretrained): return text_classifier_learner(data, AWD_LSTM, config='small', pretrained=pretrained, silent=True)
    learn = made(True) # the first optimizer of a process imports a part of torch
    load = seconds(lambda: made(True), 5)-seconds(lambda: made(False), 5)
    return {'small_load_ms': 1000*load, 'small_predict_ms': 1000*seconds(lambda: learn.predict(SHORT), 100),
        'small_tokens_ms': 1000*seconds(lambda: data.encode(SHORT), 100)}


def side_fastai(path):
    "Figures of fastai"
    import pandas as pd
    from fastai.text.all import AWD_LSTM, TextDataLoaders, text_classifier_learner
    dls = TextDataLoaders.from_df(pd.read_csv(path), text_col='text', label_col='label', valid_col='is_valid', bs=BS)
    learn = text_classifier_learner(dls, AWD_LSTM, pretrained=False)
    def quiet(f):
        def _f(*args):
            with learn.no_bar(), learn.no_logging(): return f(*args)
        return _f
    return figures(quiet(learn.get_preds), quiet(learn.predict))


SIDES = dict(textnb=side_textnb, fastai=side_fastai)


def run(peer=None, rounds=2)->dict:
    "Figures of all sides, and ratios (above 1 is better) to `peer`, an interpreter that has fastai 2.8.12"
    with tempfile.TemporaryDirectory() as d:
        table = os.path.join(d, 'docstrings.csv')
        write_table(table)
        return take_turns(__file__, ['textnb'], peer, rounds, table)


if __name__ == '__main__': main(__doc__, run, SIDES, rounds=2)
