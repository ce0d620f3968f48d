"Code that was written for fastai: its names and arguments, each with the value that it has to give"
import numpy as np
import pandas as pd
import pytest
import torch

from textnb.all import *

CONFIG = dict(emb_sz=8, n_hid=8, n_layers=1)
KW = dict(config=CONFIG, pretrained=False, silent=True)

def frame(n=40, labels=('neg', 'pos')):
    "A table of `n` short texts whose last word says the label"
    return pd.DataFrame(dict(label=[labels[i%len(labels)] for i in range(n)], text=[f'film number {i} was {i%len(labels)}' for i in range(n)]))

def bunch(path, labels=('neg', 'pos'), bs=8, **kw):
    df = frame(labels=labels)
    return TextClasDataBunch.from_df(path, df[:32], df[32:], min_freq=1, bs=bs, text_cols='text', label_cols='label', **kw)

@pytest.fixture
def learn(tmp_path):
    torch.manual_seed(0)
    return text_classifier_learner(bunch(tmp_path), AWD_LSTM, **KW)

def test_items_of_labels(tmp_path):
    "Numbers of classes, which name them; the same after saving and loading"
    data = bunch(tmp_path)
    y = data.train_ds.y
    assert y.items.tolist()==[0, 1]*16 and y.items.dtype==np.int64
    assert [y.classes[i] for i in y.items[:2]]==['neg', 'pos']
    assert data.c2i==data.train_ds.c2i==y.c2i==dict(neg=0, pos=1)
    data.save()
    assert load_data(tmp_path).train_ds.y.items.tolist()==y.items.tolist()

def test_items_of_numbers_and_of_several_labels(tmp_path):
    data = bunch(tmp_path, labels=(1.5, 2.5))
    assert data.train_ds.y.items[:2].tolist()==[1.5, 2.5]
    several = bunch(tmp_path, labels=('a', 'a b'), label_delim=' ')
    assert list(several.train_ds.y.items[:2])==[[0], [0, 1]]
    df = frame().assign(a=[0, 1]*20, b=1)
    flags = TextClasDataBunch.from_df(tmp_path, df[:32], df[32:], min_freq=1, text_cols='text', label_cols=['a', 'b'])
    assert flags.train_ds.y.items[:2].tolist()==[[0, 1], [1, 1]]
    flags.save('flags.tnb')
    assert load_data(tmp_path, 'flags.tnb').train_ds.y.items[:2].tolist()==[[0, 1], [1, 1]]

def test_empty_labels(tmp_path):
    data = TextLMDataBunch.from_df(tmp_path, frame(), frame(), min_freq=1, text_cols='text', bs=4)
    assert isinstance(data.train_ds.y[0], EmptyLabel) and str(data.train_ds.y[0])==''
    assert data.train_ds[0].text==data.train_ds[0].x.text=='xxbos film number 0 was 0'
    x, y = data.train_ds[0]
    assert x.text==data.train_ds[0].text and y.data==0

def test_data_that_were_exported(tmp_path):
    data = bunch(tmp_path)
    data.export()
    empty = TextClasDataBunch.load_empty(tmp_path)
    assert isinstance(empty, TextClasDataBunch) and len(empty.train_ds)==0
    assert empty.classes==['neg', 'pos'] and empty.vocab.itos==data.vocab.itos
    assert empty.encode('film 3').tolist()==data.encode('film 3').tolist()
    data.export('export.pkl')
    (tmp_path/'export_data.tnb').unlink()
    assert DataBunch.load_empty(tmp_path).classes==['neg', 'pos']
    with pytest.raises(FileNotFoundError, match='nothing.tnb'): DataBunch.load_empty(tmp_path, 'nothing.tnb')

def test_older_names_of_splits_and_labels(tmp_path):
    il = TextList.from_df(frame(), tmp_path, cols='text')
    assert len(il.no_split().valid)==0 and len(il.no_split().train)==40
    a, b = il.random_split_by_pct(.25, seed=3), il.split_by_rand_pct(.25, seed=3)
    assert list(a.valid.items)==list(b.valid.items) and len(a.valid)==10
    lists = il.split_by_idx(range(32, 40)).label_from_lists(['x', 'y']*16, ['y']*8)
    assert lists.train.y.items.tolist()==[0, 1]*16 and lists.valid.y.items.tolist()==[1]*8

def test_losses_of_fastai():
    logits, targ = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    want = torch.nn.functional.cross_entropy(logits, targ, label_smoothing=.2)
    assert torch.allclose(LabelSmoothingCrossEntropy(eps=.2)(logits, targ), want)
    flat = FlattenedLoss(torch.nn.CrossEntropyLoss, label_smoothing=.2)
    assert torch.allclose(flat(logits.view(1, 5, 3), targ.view(1, 5)), want)
    assert torch.allclose(flat.activation(logits), logits.softmax(-1))

@pytest.mark.parametrize('loss', [LabelSmoothingCrossEntropy(), FlattenedLoss(LabelSmoothingCrossEntropy, eps=.1), FlattenedLoss(torch.nn.CrossEntropyLoss)])
def test_learners_with_losses_of_fastai(tmp_path, loss):
    "Probabilities add up to one, also after a way through a file, and the interpretation has a loss for each text"
    learn = text_classifier_learner(bunch(tmp_path), AWD_LSTM, loss_func=loss, **KW)
    learn.fit(1, 1e-2)
    probs = learn.predict('film number 3')[2]
    assert probs.sum().item()==pytest.approx(1, abs=1e-5)
    learn.export()
    assert torch.allclose(load_learner(tmp_path).predict('film number 3')[2], probs, atol=1e-6)
    interp = ClassificationInterpretation.from_learner(learn)
    assert interp.losses.shape==(8,) and interp.losses.mean().item()==pytest.approx(learn.validate()[0], abs=1e-5)

def test_report_of_classes(learn):
    from sklearn.metrics import precision_recall_fscore_support
    learn.fit(2, 1e-2)
    interp = learn.interpret()
    report = interp.classification_report()
    p, r, f, n = precision_recall_fscore_support(interp.y_true, interp.pred_class, labels=[0, 1], zero_division=0)
    assert np.allclose(report.iloc[:2].to_numpy(), np.stack([p, r, f, n], 1))

def test_short_names_of_metrics(tmp_path):
    from sklearn import metrics as skm
    pred, targ = torch.randn(9, 1).exp(), torch.randn(9).exp()
    p, t = pred[:, 0].numpy(), targ.numpy()
    want = {mse: skm.mean_squared_error, mae: skm.mean_absolute_error, rmse: skm.root_mean_squared_error, r2_score: skm.r2_score}
    for ours, theirs in want.items(): assert float(ours(pred, targ))==pytest.approx(theirs(t, p), rel=1e-4)
    assert float(exp_rmspe(pred.log(), targ.log()))==pytest.approx(np.sqrt((((t-p)/t)**2).mean()), rel=1e-4)
    learn = text_classifier_learner(bunch(tmp_path, labels=(1.5, 2., 4.)), AWD_LSTM, metrics=[mse, mae, rmse, r2_score], **KW)
    learn.fit(1)
    preds, y = learn.get_preds()
    loss, *values = learn.validate()
    assert values==pytest.approx([float(f(preds, y)) for f in (mse, mae, rmse, r2_score)], rel=1e-3)
    assert learn.recorder.names[3:7]==['mean_squared_error', 'mean_absolute_error', 'root_mean_squared_error', 'r2score']

def test_f1_in_a_fit(learn):
    learn.metrics = [F1Score(), F1Score('macro')]
    learn.fit(1)
    from sklearn.metrics import f1_score
    preds, y = learn.get_preds()
    values = learn.validate()[1:]
    assert values==pytest.approx([f1_score(y, preds.argmax(1)), f1_score(y, preds.argmax(1), average='macro')])

def test_save_and_load_by_fastais_arguments(learn, tmp_path):
    learn.fit(1)
    assert learn.save(file='one', return_path=True)==tmp_path/'models'/'one.tnb'
    before = learn.predict('film')[2]
    torch.save(dict(model=learn.model.state_dict(), opt={}), tmp_path/'models'/'two.pth')
    learn.fit(1, 1e-1)
    assert not torch.equal(learn.predict('film')[2], before)
    for kw in (dict(file='one', purge=False), dict(name='two'), dict(file='two', purge=True)):
        learn.fit(1, 1e-1)
        assert torch.equal(learn.load(**kw).predict('film')[2], before)
    with pytest.raises(FileNotFoundError, match=r'three\.tnb.*three\.pth'): learn.load('three')

def test_a_name_that_ends_in_pth(learn):
    before = learn.predict('film')[2]
    learn.save('stage.pth')
    learn.fit(1, 1e-1)
    assert torch.equal(learn.load('stage.pth').predict('film')[2], before)

def test_the_optimizer_in_its_wrapper(learn):
    learn.fit(1)
    assert learn.opt.opt.param_groups is learn.opt.param_groups
    assert isinstance(learn.opt.opt, torch.optim.Optimizer)

def test_plots_and_suggestion(learn):
    import matplotlib.pyplot as plt
    learn.lr_find()
    assert learn.recorder.min_grad_lr in learn.recorder.lrs
    fig = learn.recorder.plot(skip_start=3, skip_end=2, suggestion=True, return_fig=True)
    assert list(fig.axes[0].lines[0].get_xdata())==learn.recorder.lrs[3:-2]
    assert fig.axes[0].lines[1].get_xdata()[0]==learn.recorder.min_grad_lr
    plt.close('all')

def test_no_rate_below_the_least(learn):
    learn.fit(6, 1e-3, callbacks=[ReduceLROnPlateau(monitor='val_loss', factor=.1, min_lr=2e-4, min_delta=9.)])
    rates = sorted(set(learn.recorder.lrs), reverse=True)
    assert rates==pytest.approx([1e-3, 2e-4])

@pytest.mark.parametrize('monitor,column', [('val_loss', 'valid_loss'), ('trn_loss', 'train_loss'), ('f1_score', 'f1score'), ('accuracy', 'accuracy')])
def test_monitors_by_fastais_columns(learn, monitor, column):
    learn.metrics = [accuracy, F1Score()]
    watch = SaveModelCallback(monitor=monitor)
    learn.fit(1, callbacks=[watch])
    assert watch.monitor==column and watch.saved

def test_numbers_between_two_limits(tmp_path):
    "Live, after a file, in bulk and one by one"
    data = bunch(tmp_path, labels=(1.5, 2., 5.))
    learn = text_classifier_learner(data, AWD_LSTM, y_range=(.5, 5.5), **KW)
    learn.fit(1, 1e-1)
    learn.model[1].layers[-1].bias.data.fill_(99.)
    number = learn.predict('film number 2 was 1')
    assert number[2].item()==pytest.approx(5.5) and learn.get_preds()[0].max()<=5.5
    learn.export()
    again = load_learner(tmp_path)
    assert again.predict('film number 2 was 1')[2].item()==pytest.approx(5.5)
    assert text_classifier_learner(data, AWD_LSTM, **KW).model[1].y_range is None
    with pytest.raises(ValueError, match='labels that are numbers'): text_classifier_learner(bunch(tmp_path), AWD_LSTM, y_range=(0, 1), **KW)

def test_loaders_and_input(learn):
    texts = ['film number 3 was 1', 'film number 4 was 0']
    learn.data.add_test(texts)
    assert torch.allclose(learn.get_preds(dl=learn.data.test_dl)[0], learn.predict_texts(texts), atol=1e-6)
    full = learn.predict(texts[0], with_input=True)
    assert full[0].text=='xxbos film number 3 was 1' and torch.equal(full[3], learn.predict(texts[0])[2])
    assert learn.predict(texts[0], return_x=True)[0].text==full[0].text

def test_dropout_at_prediction(learn):
    torch.manual_seed(1)
    preds = learn.predict_with_mc_dropout('film number 3', n_times=5)
    assert len(preds)==5 and len({o[2][0].item() for o in preds})==5
    assert all(o[2].sum().item()==pytest.approx(1, abs=1e-5) for o in preds)
    before = learn.predict('film number 3')[2]
    learn.predict_with_mc_dropout('film number 3')
    assert torch.equal(learn.predict('film number 3')[2], before)

def test_batches_to_show(tmp_path, capsys):
    data = bunch(tmp_path)
    data.show_batch(max_n=2)
    assert len(capsys.readouterr().out.splitlines())==3
    data.show_batch(rows=3)
    assert len(capsys.readouterr().out.splitlines())==4

def test_configurations_by_their_long_names():
    import textnb.models as m
    assert m.transformer_lm_config is m.tfmer_lm_config and m.transformer_clas_config is m.tfmer_clas_config
    assert m.transformerxl_lm_config is m.tfmerXL_lm_config and m.transformerxl_clas_config is m.tfmerXL_clas_config

def test_folders_have_ls(tmp_path):
    for name in ('b.txt', 'a.txt'): (tmp_path/name).touch()
    assert sorted(o.name for o in tmp_path.ls())==['a.txt', 'b.txt']

def test_learner_callbacks(tmp_path):
    "Made by a learner with arguments behind it, told what happened, and found on the learner"
    class WatchLosses(LearnerCallback):
        def __init__(self, learn, first=0):
            super().__init__(learn)
            self.seen = [first]
        def on_epoch_end(self, epoch, last_metrics, **kwargs): self.seen.append((epoch, last_metrics[0]))
    learn = text_classifier_learner(bunch(tmp_path), AWD_LSTM, callback_fns=partial(WatchLosses, first='x'), **KW)
    learn.fit(2)
    assert learn.watch_losses.seen==['x', *enumerate(learn.recorder.val_losses)]
    assert learn.watch_losses.data is learn.data and learn.watch_losses.recorder is learn.recorder

WANTED = '''ClassificationInterpretation LabelSmoothingCrossEntropy FlattenedLoss LearnerCallback EmptyLabel EmptyLabelList mse rmse mae
r2_score exp_rmspe transformer_lm_config transformer_clas_config transformerxl_lm_config transformerxl_clas_config F1Score FBeta Precision
Recall AUROC KappaScore MatthewsCorreff error_rate Perplexity accuracy_thresh fbeta ReduceLROnPlateauCallback'''.split()

def test_the_star_brings_what_old_code_calls_bare():
    import textnb.all
    assert [o for o in WANTED if o not in textnb.all.__all__]==[]

def test_what_became_of_a_name():
    from textnb.coming_from_fastai import fastai_names, what_became_of
    told = {o.name: o for o in fastai_names() if o.module.endswith('version 1')}
    assert all(told[o].fate=='there' for o in WANTED if o in told) and len(told)>400
    assert what_became_of('annealing_cos').endswith('here it is `anneal_cos`.')
    assert 'was left out: about images' in what_became_of('dice')
    assert "Did you mean 'TextDataBunch'?" in what_became_of('TextDataBunche')

def test_an_old_name_of_the_star_import_is_explained():
    import textnb.all
    with pytest.raises(AttributeError, match='`FlatCosScheduler`'): textnb.all.FlatCosAnnealScheduler
    assert not hasattr(textnb.all, '__wrapped__')
