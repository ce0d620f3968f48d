"Hooks, arguments and pictures: what is given is used or refused by name"
import numpy as np, pytest, torch
from matplotlib import pyplot as plt

from textnb.models import text_head
from textnb.toys import toy_data, toy_model
from textnb.train import accuracy, Callback, CSVLogger, Learner, TrainingDiverged

def learner(**kw): return Learner(toy_data(), toy_model(), metrics=accuracy, silent=True, **kw)

def test_pictures_can_be_saved(tmp_path):
    l = learner()
    l.fit(2, .03)
    for name in ('plot_losses','plot_lr','plot_metrics'):
        getattr(l.recorder, name)()
        plt.savefig(tmp_path/f'{name}.png')
        assert plt.imread(tmp_path/f'{name}.png')[...,:3].std()>.02
    plt.close('all')

@pytest.mark.parametrize('name,near', [('after_epochs','after_epoch'), ('on_epoch_ends','on_epoch_end'), ('before_batches','before_batch')])
def test_misspelt_hook(name, near):
    cb = type('Mine', (Callback,), {name:lambda self: None})
    for f in (lambda: learner(callbacks=cb), lambda: learner().fit(1, callbacks=[cb()]), lambda: learner().add_cb(cb)):
        with pytest.raises(TypeError, match=f"{name}.*Did you mean '{near}'"): f()

def test_old_hooks():
    seen = []
    class Old(Callback):
        def on_train_begin(self, n_epochs, **kwargs): seen.append(n_epochs)
        def on_batch_end(self, last_loss, train, **kwargs): seen.append(train)
        def on_epoch_end(self, epoch, last_metrics, smooth_loss, **kwargs): seen.append((epoch, len(last_metrics), smooth_loss>0))
    l = learner()
    l.callbacks.append(Old())
    l.fit(2, .03)
    assert seen[0]==2 and seen.count(True)==2*len(l.data.train_dl) and (0,2,True) in seen and (1,2,True) in seen

def test_one_needs_no_list(tmp_path):
    l = learner(path=tmp_path, callback_fns=CSVLogger)
    l.fit(1, .03, callbacks=CSVLogger('other'))
    assert (tmp_path/'history.csv').exists() and (tmp_path/'other.csv').exists()
    assert len(l.validate(l.data.valid_dl, None, [accuracy]))==2 and len(l.validate(metrics=accuracy))==2

def test_small_ones():
    assert text_head(4, 2, lin_ftrs=30).layers[-1].in_features==30
    learner(opt_func='Adam').fit(1, .01)
    with pytest.raises(ValueError, match="Did you mean 'Adam'"): learner(opt_func='Adan')
    with pytest.raises(TypeError, match='DatasetType'): learner().get_preds(1)

def test_fine_tune():
    m = torch.nn.Sequential(*toy_model().children())
    l = Learner(toy_data(), m, silent=True).split([m[0], m[1:]])
    l.fine_tune(1, pct_start=.3)
    for kw in (dict(pct_strat=.3), dict(pct_start=3.), dict(callbacks=['x'])):
        with pytest.raises((TypeError,ValueError)): l.fine_tune(1, **kw)
        assert all(p.requires_grad for p in m.parameters())

def test_diverged(tmp_path):
    l = learner(path=tmp_path)
    with pytest.raises(TrainingDiverged, match='learning rate'): l.fit(3, 1e30)
    with torch.no_grad(): next(l.model.parameters())[0] = np.nan
    with pytest.raises(TrainingDiverged, match='NaN'): l.save('x')
    assert not l.file_for('x').exists()
