"The data sets as (train, test, unlabelled), tables with the columns text and label"
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

ENDINGS = '.parquet', '.csv', '.csv.xz'

class NotThere(Exception): "A data set whose files are not in the folder"

@dataclass(frozen=True)
class DataSet:
    "What is measured on, and how it is split"
    files:tuple  # of one table that is cut into folds or has a column `is_valid`, or of train and test
    folds:int = 0  # cross-validation; 0: the set has its own split
    labels:int = 0  # so many labelled texts, the rest of the training texts without; 0: all of them
    fetch:bool = False  # comes with `URLs.MOVIE_SNIPPETS`, if it is not in the folder

MR = 'small_sentiment/mr_sentence_polarity',
SUBJ = 'small_sentiment/subjectivity',
AMAZON = 'movie_snippets/amazon_snippets',
SETS = dict(
    mr=DataSet(MR, folds=10),
    subj=DataSet(SUBJ, folds=10),
    trec=DataSet(('trec/train', 'trec/test')),
    movie=DataSet(('movie_snippets/movie_snippets',), fetch=True),
    amazon=DataSet(AMAZON, folds=10, fetch=True),
    **{f'amazon@{n}': DataSet(AMAZON, folds=10, labels=n, fetch=True) for n in (100, 300, 1000)},
    banking=DataSet(('intents/banking77_train', 'intents/banking77_test')),
    sample=DataSet(('imdb_sample/texts',)),
    imdb=DataSet(('imdb/train', 'imdb/test')))

def kfold(df, fold, folds, seed=0):
    "Rows of `df` to train on and to test on: the same permutation for all folds and methods"
    order = np.random.default_rng(seed).permutation(len(df))
    test = np.zeros(len(df), bool)
    test[order[fold::folds]] = True
    return df[~test], df[test]

def few_labels(train, n, seed):
    "`n` rows of `train`, and the others, whose labels nobody may see"
    order = np.random.default_rng(seed+100).permutation(len(train))
    return train.iloc[order[:n]], train.iloc[order[n:]]

def find(folder, name):
    "The file called `name` in `folder`, or None"
    return next((f for e in ENDINGS if (f := Path(folder)/f'{name}{e}').is_file()), None) if folder else None

def read(file):
    "The table in `file`"
    if file.suffix=='.parquet': return pd.read_parquet(file)
    return pd.read_csv(file, keep_default_na=False, dtype=dict(text=str, label=str))

def locate(data, folder):
    "The files of the set `data`; raises NotThere, naming what was looked for"
    found = [find(folder, name) for name in data.files]
    if data.fetch and None in found:
        from textnb.text import URLs, untar_data
        try: path = untar_data(URLs.MOVIE_SNIPPETS)
        except OSError as e: raise NotThere(f'{data.files[0]}.csv is not in {folder or "a folder (--data)"}, and could not be fetched ({e})') from e
        found = [find(path.parent, name) for name in data.files]
    missing = [name for name, f in zip(data.files, found) if f is None]
    if missing: raise NotThere(f'no {" and no ".join(missing)} ({", ".join(ENDINGS)}) in {folder or "a folder: name one by --data or TEXTNB_RESULTS_DATA"}')
    return found

@lru_cache(2)
def tables(name, folder):
    "The tables of the set called `name`: one, or train and test"
    files = locate(SETS[name], folder)
    res = [read(f) for f in files]
    for f, df in zip(files, res):
        lacking = {'text', 'label'}-set(df.columns)
        if lacking: raise ValueError(f'{f} has no column {" and no ".join(sorted(lacking))}; it has {", ".join(map(str, df.columns))}')
    return res

def load(name, fold=0, seed=0, folder=None):
    "(train, test, unlabelled) of the set called `name`; raises NotThere if its files are not in `folder`"
    data = SETS[name]
    dfs = tables(name, str(folder) if folder else None)
    if data.folds: train, test = kfold(dfs[0], fold, data.folds)
    elif len(dfs)==2: train, test = dfs
    else:
        valid = dfs[0].is_valid.astype(str).str.lower().isin(['true', '1'])
        train, test = dfs[0][~valid], dfs[0][valid]
    train, test = [o[['text', 'label']].astype(str).reset_index(drop=True) for o in (train, test)]
    unlabelled = train.iloc[:0]
    if data.labels: train, unlabelled = few_labels(train, data.labels, seed)
    return train.reset_index(drop=True), test, unlabelled.text.tolist()
