"""Tokenizing: documents a second with 1 and 2 workers, likeness to spaCy, bytes a token, and the memory a million short documents take.

    python bench/bench_tokenize.py [--peer PYTHON_WITH_FASTAI] [--rounds 3] [--docs 5000]

`TEXTNB_IMDB=train.parquet` (a column `text`) measures on reviews; without it the documents are put together from the language reference of Python, in the length and with the marks of reviews.
textnb's figure is the whole way to a store, with its vocabulary; fastai's is tokenizing alone. The sides take turns, and the best of each counts."""
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from sides import main

N_DOCS, N_SHORT = 5000, 1_000_000

FASTAI = """
import json, sys, time
from fastai.text.core import tokenize_texts
if __name__ == '__main__':
    texts = json.load(open(sys.argv[1], encoding='utf-8'))
    tokenize_texts(texts[:20], n_workers=2)
    t = time.perf_counter()
    n = sum(map(len, tokenize_texts(texts, n_workers=2)))
    print(json.dumps([time.perf_counter()-t, n]))
"""

SHORT = """
import json, os, resource, sys
from textnb.text import build_store
def peak(who): return resource.getrusage(who).ru_maxrss*(1 if sys.platform == 'darwin' else 1024)
def own(key):
    # Linux tells the figures of this program alone; elsewhere the highest figure so far has to do
    if not os.path.exists('/proc/self/status'): return peak(resource.RUSAGE_SELF)
    return next(int(l.split()[1])*1024 for l in open('/proc/self/status') if l.startswith(key))
if __name__ == '__main__':
    before = own('VmRSS')
    store, vocab = build_store(open(sys.argv[1], encoding='utf-8'), n_workers=int(sys.argv[2]), pbar=False)
    print(json.dumps([before, own('VmHWM'), peak(resource.RUSAGE_CHILDREN), len(store), store.n_tokens, store.ids.nbytes, store.nbytes]))
"""


def documents(n=N_DOCS):
    "`n` reviews, or documents like them"
    if path := os.environ.get('TEXTNB_IMDB'):
        import pandas as pd
        return pd.read_parquet(path, columns=['text']).text.sample(n, random_state=0).tolist()
    from textnb.text import python_docs
    rng, words = random.Random(0), ' '.join(python_docs().text).split()
    def sentence():
        k = rng.randrange(len(words)-40)
        s = ' '.join(words[k:k+rng.randint(5, 40)]).capitalize()
        if rng.random() < .1: s += f', said {rng.choice(words).capitalize()}{rng.randrange(10**6)}'
        if rng.random() < .05: s = s.upper()
        return s+rng.choice(['.', '.', '.', '!', '?', '...', '!!!!!!', '.<br /><br />'])
    def doc(): return ' '.join(sentence() for _ in range(max(1, int(rng.lognormvariate(2.1, .6)))))
    return [doc() for _ in range(n)]


def seconds_textnb(texts, n_workers):
    "Seconds from texts to a store, with a new tokenizer"
    from textnb.text import build_store
    from textnb.text import Tokenizer
    t = time.perf_counter()
    store, _ = build_store(texts, Tokenizer(), n_workers=n_workers, pbar=False)
    return time.perf_counter()-t, store


def seconds_fastai(texts, peer):
    "Seconds fastai takes for the tokens, with 2 workers"
    with tempfile.TemporaryDirectory() as d:
        Path(d, 'texts.json').write_text(json.dumps(texts), encoding='utf-8')
        Path(d, 'peer.py').write_text(FASTAI, encoding='utf-8')
        res = subprocess.run([peer, '-W', 'ignore', f'{d}/peer.py', f'{d}/texts.json'], capture_output=True, text=True)
    if res.returncode: raise RuntimeError(f'tokenizing with {peer} failed:\n{res.stderr[-2000:]}')
    return json.loads(res.stdout.splitlines()[-1])[0]


def places(toks):
    "Where each token begins and ends in the text without white space"
    res, i = Counter(), 0
    for o in toks:
        if n := len(''.join(o.split())): res[i, i+n] += 1
        i += n
    return res


def likeness(texts):
    "Part of spaCy's tokens, after the rules and without white space, that are ours too, in percent"
    try: import spacy
    except ImportError: return None
    from textnb.text import Tokenizer
    from textnb.base import defaults
    tok, spacy_tok = Tokenizer(post_rules=[]), spacy.blank('en').tokenizer
    for o in defaults.text_spec_tok: spacy_tok.add_special_case(o, [{'ORTH': o}])
    same = total = 0
    for t in texts:
        ours = places(tok.process_text(t))
        for f in defaults.text_pre_rules: t = f(t)
        theirs = places(o.text for o in spacy_tok(t))
        same += sum((ours & theirs).values())
        total += max(sum(ours.values()), sum(theirs.values()))
    return 100*same/total


def short_documents(n=N_SHORT, n_workers=2):
    "Memory that a process takes for the store of `n` short documents, read from a file"
    rng = random.Random(0)
    vocab = [f'{rng.choice("aeiou")}{rng.randrange(16**5):x}' for _ in range(50000)]
    with tempfile.TemporaryDirectory() as d:
        with open(f'{d}/docs.txt', 'w', encoding='utf-8') as f:
            for _ in range(n): f.write(' '.join(vocab[int(50000**rng.random())-1] for _ in range(rng.randint(3, 15)))+'\n')
        res = subprocess.run([sys.executable, '-W', 'ignore', '-c', SHORT, f'{d}/docs.txt', str(n_workers)], capture_output=True, text=True)
    if res.returncode: raise RuntimeError(f'the store of short documents failed:\n{res.stderr[-2000:]}')
    before, own, worker, docs, tokens, ids, total = json.loads(res.stdout.splitlines()[-1])
    return dict(bytes_per_token=ids/tokens, bytes_per_token_with_offsets=total/tokens, peak_mb=own/2**20, worker_peak_mb=worker/2**20, growth_bytes_per_token=(own-before)/tokens,
                short_docs=docs, short_tokens=tokens)


def run(peer=None, rounds=3, docs=N_DOCS, short=N_SHORT)->dict:
    "Figures of both sides, and ratios (above 1 is better)"
    texts = documents(docs)
    best = {}
    for _ in range(rounds):
        for n in (1, 2):
            t, store = seconds_textnb(texts, n)
            best[n] = min(best.get(n, t), t)
        if peer: best['fastai'] = min(best.get('fastai', 1e9), seconds_fastai(texts, peer))
    res = {'textnb': dict(docs_s=len(texts)/best[2], docs_s_1_worker=len(texts)/best[1], tokens_s=store.n_tokens/best[2], equal_to_spacy_pct=likeness(texts[:2000]), **short_documents(short))}
    if peer:
        res['fastai'] = dict(docs_s=len(texts)/best['fastai'])
        res['ratio'] = dict(docs_s=best['fastai']/best[2])
    return res


if __name__ == '__main__': main(__doc__, run, rounds=3, docs=(N_DOCS, 'documents to tokenize'), short=(N_SHORT, 'short documents, for the memory'))
