"textnb as its users have it, through `fine_tune_classifier`, and with parts of it left out. Each takes (train, test, seed, unlabelled) and gives an Outcome"
import tempfile
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from textnb.base import best_dtype
from textnb.learn import KeepBest, fine_tune_classifier, fine_tuning_data, plan_training, pretrained_words
from tools.results.baselines import Clock, Outcome

ARCH, CONFIG = 'AWD_LSTM', 'small'

def fine_tune(train, seed, unlabelled, folder, direction='forward', pretrained=True, **changes):
    "The learner of `fine_tune_classifier`, with its own plan, or with one that differs in `changes`"
    args = dict(direction=direction, pretrained=pretrained, unlabelled=unlabelled, seed=seed, silent=True)
    if not changes: return fine_tune_classifier(train, path=folder, **args)
    data = fine_tuning_data(train, known=pretrained_words(ARCH, CONFIG, pretrained), unlabelled=unlabelled, seed=seed, path=folder)
    tokens = data.train_ds.x.store.n_tokens+sum(len(o.split()) for o in unlabelled)
    plan = plan_training(len(data.train_ds), tokens, data.c, pretrained)
    learn = fine_tune_classifier(data, plan=replace(plan, **changes), **args)
    learn.usual_plan = plan
    return learn

def unfreeze_gradually(train, seed, unlabelled, folder):
    "As many epochs of the classifier as the plan has, at its rates, but one layer group more in each of the first ones"
    learn = fine_tune(train, seed, unlabelled, folder, epochs=0)
    plan = learn.plan = learn.usual_plan
    groups = len(learn.layer_groups)
    for epoch, first in enumerate([*range(groups-2, 0, -1), 0]):
        learn.freeze_to(first) if first else learn.unfreeze()
        lower = plan.lr/plan.ratio**(groups-1)
        steps = [KeepBest('accuracy', patience=plan.patience)] if first==0 else []
        learn.fit_one_cycle(1 if first else max(1, plan.epochs-epoch), slice(lower, plan.lr), moms=(.8, .7), callbacks=steps)
    return learn

def size_of(learn, folder):
    "Bytes of the file that `export` writes"
    file = Path(folder)/'exported.tnb'
    learn.export(file)
    return file.stat().st_size

def measure(way, train, test, seed=0, unlabelled=()):
    "An Outcome of the learner that `way` trains"
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        learn = way(train, seed, list(unlabelled), folder)
        trained, clock = clock(), Clock()
        p = torch.as_tensor(learn.predict_texts(test.text.tolist())).float().cpu().numpy()
        tested = clock()
        size = size_of(learn, folder)/1e6
    settings = {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(learn.plan).items()}
    settings.update(arch=ARCH, config=CONFIG, bf16=best_dtype()==torch.bfloat16)
    return Outcome(list(map(str, learn.data.classes)), p, *trained, tested[1], size, settings, ['torch'])

no_language_model = dict(lm_epochs=0, lm_head_epochs=0)
textnb = partial(measure, fine_tune)
backward = partial(measure, partial(fine_tune, direction='backward'))
pretrained = partial(measure, partial(fine_tune, **no_language_model))
own = partial(measure, partial(fine_tune, pretrained=False))
none = partial(measure, partial(fine_tune, pretrained=False, **no_language_model))
gradual = partial(measure, unfreeze_gradually)
