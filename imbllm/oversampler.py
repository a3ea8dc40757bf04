import hashlib, json, math, numbers, os, shutil, warnings
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from imblearn.over_sampling.base import BaseOverSampler
from imblearn.utils import check_sampling_strategy, check_target_type
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, validate_data
from tqdm.auto import tqdm
from transformers import GPT2LMHeadModel
from imbllm.finetuning import Corpus, finetune
from imbllm.interpolation import Interpolation
from imbllm.models import check_context, context_limit, embedded_model, load_llm, resolve_device, trim_vocabulary, untrimmed
from imbllm.permutation import PERMUTATIONS
from imbllm.sampling import CONDITIONS, Grammar, sample_rows
from imbllm.schema import (Column, EmptyTableError, Schema, TableError, UnknownValueError, as_frame, column_from_json, column_to_json, encode_column,
    infer_column, infer_schema, nearest_codes)
from imbllm.serialization import Codec, TableTokenizer, TextTokenizer


PRESETS = {
    None: dict(llm="embedded", temperature=1., keep_original=True, interpolation="neighbors", interpolate_categories=True),
    "paper": dict(llm="distilgpt2", temperature=.7, keep_original=False, interpolation="random", interpolate_categories=False),
}
EMBEDDED = dict(batch_size=16, learning_rate=4e-3, epochs=None)   # epochs=None: EMBEDDED_STEPS updates
PRETRAINED = dict(batch_size=32, learning_rate=5e-5, epochs=50)   # the paper's, with the Trainer's default learning rate
EMBEDDED_STEPS = 600
FINETUNE_ON = "minor+interpolate", "minor", "major+minor"

def _refuse(X, y):
    "Refuse an empty table, labels that are missing, and another number of labels than of rows."
    n, labels = X.shape[0] if hasattr(X, "shape") else len(X), np.asarray(y, dtype=object)
    if n == 0: raise EmptyTableError("X has 0 rows; at least two classes with a row each are needed.")
    missing = int(pd.isna(labels).sum())
    if missing: raise ValueError(f"y has {missing} missing labels; drop those rows.")
    if len(labels) != n: raise ValueError(f"X has {n} rows, but y has {len(labels)} labels.")

def _codes(col, values): return encode_column(col, pd.Series(values))

def _given_cell(col, value):
    "Code nearest to a value that the user gives for column `col`, and the value as a cell of its dtype."
    if not pd.api.types.is_scalar(value): raise UnknownValueError(f"given: column {col.name!r} takes one value; got {value!r}.")
    if pd.isna(value): return encode_column(col, col.values.iloc[-1:] if col.has_missing else pd.Series([None]))[0], col.values.iloc[-1:]
    if not col.ordered:
        try: code = encode_column(col, pd.Series([value]))[0]
        except UnknownValueError as e: raise UnknownValueError(f"given: {e} Its values are {', '.join(col.texts[:20])}.") from e
        return code, col.values.iloc[[code]]
    try:
        cell = pd.Series([pd.Timestamp(value) if col.values.dtype.kind == "M" or isinstance(col.values.dtype, pd.DatetimeTZDtype) else value]).astype(col.values.dtype)
        number = Column(col.name, col.kind, cell).numbers[0]
    except (TypeError, ValueError) as e: raise UnknownValueError(f"given: column {col.name!r} is {col.kind}; {value!r} is not.") from e
    if col.kind == "numeric" and number != float(value): raise UnknownValueError(f"given: column {col.name!r} holds whole numbers; got {value!r}.")
    if not col.numbers[0] <= number <= col.numbers[-1]: raise UnknownValueError(f"given: column {col.name!r} goes from {col.texts[0]} to {col.texts[col.n_present - 1]}; got {value!r}.")
    return int(nearest_codes(col, number)), cell

@contextmanager
def _threads(n_jobs):
    "Let torch use `n_jobs` threads inside this context; -1 means every core."
    before = torch.get_num_threads()
    torch.set_num_threads((os.cpu_count() or 1) if n_jobs == -1 else n_jobs)
    try: yield
    finally: torch.set_num_threads(before)

def _balanced_weights(columns, codes):
    "Share of each present value per column, every class counting the same."
    size = np.bincount(codes[:, 0])
    w = 1 / size[codes[:, 0]]
    return [np.bincount(codes[:, j], w, minlength=len(c))[:c.n_present] for j, c in enumerate(columns)]


class ImbLLM(BaseOverSampler):
    """Oversample rare classes with a language model of rows.

    Each row is a sentence, the label first; the model is fine-tuned on the rows of the classes to be oversampled and on
    rows interpolated between them (Eq. 5 of the paper), and prompted with the label and one random feature.
    Every sampled row is complete and valid: observed categories, numbers inside the observed range with the observed decimals, the table's own dtypes.

    Arguments left at `None` take the value of the `preset`. With `llm="embedded"`, the default, a small GPT-2 is made from the table and trained on the spot;
    any hub id or folder of a causal language model works too. After fitting, `schema_` describes the table, `model_` is the model, `history_` the training run, `classes_`
    the labels that can be sampled, `sampling_strategy_` the number of rows to add per class.

    A class with one single row can be oversampled, with a warning, but only by repeating its values. Bad tables raise `imbllm.schema.TableError`, a `ValueError`.
    """
    _parameter_constraints = {
        **BaseOverSampler._parameter_constraints,
        "llm": [str, os.PathLike, None], "preset": [StrOptions({p for p in PRESETS if p}), None],
        "condition": [StrOptions(set(CONDITIONS))], "permutation": [StrOptions(set(PERMUTATIONS))], "finetune_on": [StrOptions(set(FINETUNE_ON))],
        "interpolation_ratio": [Interval(numbers.Real, 0, None, closed="left")], "interpolate_categories": ["boolean", None],
        "interpolation": [StrOptions({"neighbors", "random"}), None], "k_neighbors": [Interval(numbers.Integral, 1, None, closed="left")],
        "temperature": [Interval(numbers.Real, 0, None, closed="neither"), None],
        "epochs": [Interval(numbers.Integral, 1, None, closed="left"), None], "batch_size": [Interval(numbers.Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(numbers.Real, 0, None, closed="neither"), None],
        "early_stopping": ["boolean"], "validation_fraction": [Interval(numbers.Real, 0, 1, closed="neither")],
        "categorical_features": ["array-like", str, numbers.Integral, None],
        "keep_original": ["boolean", None], "n_bins": [Interval(numbers.Integral, 2, None, closed="left")],
        "checkpoint_dir": [str, os.PathLike, None], "checkpoint_every": [Interval(numbers.Integral, 1, None, closed="left")],
        "device": [str], "bf16": ["boolean", None], "n_jobs": [Interval(numbers.Integral, 1, None, closed="left"), Options(numbers.Integral, {-1}), None],
        "verbose": ["verbose"],
    }

    def __init__(self, *,
        llm=None, # `"embedded"`, a hub id or a folder
        preset=None, # `None` or `"paper"`
        condition="yx", # Prompt with label and a random feature (`"yx"`) or with the label (`"y"`)
        permutation="fix_y", # Order of the fields, see `imbllm.permutation`
        finetune_on="minor+interpolate", # `"minor+interpolate"`, `"minor"` or `"major+minor"`
        interpolation_ratio=1., # Interpolated rows per epoch and class, as a multiple of the majority rows
        interpolate_categories=None, # Do interpolated rows keep the categories of x_i?
        interpolation=None, # Interpolate between nearest `"neighbors"`, or `"random"` pairs as in the paper
        k_neighbors=5, # How many neighbours
        temperature=None, # Of sampling
        epochs=None, # Passes over real and interpolated rows
        batch_size=None, # Rows per update
        learning_rate=None, # Highest learning rate
        early_stopping=False, # Hold rows out and stop when their likelihood no longer improves?
        validation_fraction=.1, # Share of rows to hold out
        categorical_features=None, # Numeric columns to be treated as categories: names, positions or a mask
        keep_original=None, # Keep the real rows of an oversampled class and top them up
        n_bins=50, # Embedded model: bins of a number with more distinct values
        checkpoint_dir=None, # Folder for checkpoints, to resume from
        checkpoint_every=100, # Updates between checkpoints
        device="auto", # `"auto"`, `"cpu"`, `"cuda"`, ...
        bf16=None, # Compute in bfloat16; `None`: on a GPU
        sampling_strategy="auto", # As in imbalanced-learn
        random_state=None, # Seed
        n_jobs=None, # CPU threads, -1 for all; `None`: one for the embedded model, else torch's own setting
        verbose=1, # Show progress bars?
    ):
        super().__init__(sampling_strategy=sampling_strategy)
        self.llm, self.preset, self.condition, self.permutation, self.finetune_on = llm, preset, condition, permutation, finetune_on
        self.interpolation_ratio, self.interpolate_categories, self.interpolation, self.k_neighbors = interpolation_ratio, interpolate_categories, interpolation, k_neighbors
        self.temperature, self.epochs, self.batch_size, self.learning_rate = temperature, epochs, batch_size, learning_rate
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.categorical_features, self.keep_original, self.n_bins = categorical_features, keep_original, n_bins
        self.checkpoint_dir, self.checkpoint_every, self.device, self.bf16 = checkpoint_dir, checkpoint_every, device, bf16
        self.random_state, self.n_jobs, self.verbose = random_state, n_jobs, verbose

    def _setting(self, name):
        "Value of an argument, or that of the preset where it is None."
        value = getattr(self, name)
        if value is not None: return value
        preset = PRESETS[self.preset]
        if name in preset: return preset[name]
        return (EMBEDDED if self._setting("llm") == "embedded" else PRETRAINED)[name]

    def _n_threads(self):
        "Threads to use. A model as small as the embedded one gains little from a second and loses much when the cores are shared."
        if self.n_jobs is not None: return self.n_jobs
        return 1 if self._setting("llm") == "embedded" else torch.get_num_threads()

    # --- the imbalanced-learn contract ---

    def _check_X_y(self, X, y):
        y, binarize_y = check_target_type(y, indicate_one_vs_all=True)
        if isinstance(X, list) and np.asarray(X).dtype.kind in "US": X = np.array(X, dtype=object)
        if not isinstance(X, pd.DataFrame): X = check_array(X, dtype=None, accept_sparse=["csr", "csc"], ensure_all_finite=False, ensure_min_samples=0)
        twice = X.columns[X.columns.duplicated()].unique() if isinstance(X, pd.DataFrame) else []
        if not len(twice): validate_data(self, X=X, y=y, reset=True, skip_check_array=True)
        try: check_sampling_strategy(self.sampling_strategy, y, self._sampling_type)
        except ValueError as e: raise ValueError(f"sampling_strategy={self.sampling_strategy!r} does not fit y: {e}") from e
        return X, y, binarize_y

    def fit(self,
        X, # Table `(n, d)`: DataFrame, array, list of rows or sparse matrix
        y, # Labels `(n,)`
    ): # -> ImbLLM
        """Fine-tune on the classes that `sampling_strategy` means, without sampling; returns `self`, ready for `sample`."""
        self._validate_params()
        _refuse(X, y)
        check_classification_targets(y)
        name = getattr(y, "name", None)
        X, y, _ = self._check_X_y(X, y)
        self.sampling_strategy_ = check_sampling_strategy(self.sampling_strategy, y, self._sampling_type)
        return self._train(X, y, name)

    def fit_resample(self,
        X, # Table `(n, d)`: DataFrame, array, list of rows or sparse matrix
        y, # Labels `(n,)`
        **params, # Metadata; none is used
    ): # -> X_resampled, y_resampled
        """Fine-tune, sample, and return the rebalanced table: the given rows first, then the new ones.

        Returns `X_resampled` `(n_new, d)` and `y_resampled` `(n_new,)` of the same types and dtypes as `X` and `y`; row order and values of given rows are
        unchanged. With `keep_original=False` the given rows of an oversampled class are replaced, as in the paper.
        """
        _refuse(X, y)
        self._label_name = getattr(y, "name", None)
        return super().fit_resample(X, y, **params)

    def _fit_resample(self, X, y):
        new = {label: n for label, n in self.sampling_strategy_.items() if n > 0}
        if not new: return X.copy(), y.copy()
        self._train(X, y, self._label_name)
        kept = np.ones(len(y), dtype=bool)
        if not self._setting("keep_original"):
            for label in new: new[label] += int((y == label).sum()); kept &= y != label
        frames = [self._sample_frame(n, self._label_code(label), {}, self._seed, bar=str(label)) for label, n in new.items()]
        frame = pd.concat(frames, ignore_index=True)
        return self._joined(X, kept, frame), np.r_[y[kept], np.repeat(np.array(list(new), dtype=y.dtype), list(new.values()))]

    def _joined(self, X, kept, frame):
        "Given rows that are kept, then new ones, in the container of `X`."
        if isinstance(X, pd.DataFrame):
            frame.columns = X.columns
            return pd.concat([X[kept], frame.astype(X.dtypes)], ignore_index=True)
        if sparse.issparse(X): return sparse.vstack([X[np.flatnonzero(kept)], type(X)(frame.to_numpy(dtype=X.dtype))], format=X.format)
        return np.concatenate([X[kept], frame.to_numpy(dtype=X.dtype)])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        tags.target_tags.required = True
        return tags

    # --- training ---

    def _train(self, X, y, label_name):
        frame = as_frame(X)
        self.schema_, self._as_array = infer_schema(frame, self.categorical_features), not isinstance(X, pd.DataFrame)
        label = infer_column(pd.Series(y, name="label" if label_name is None else label_name), categorical=True)
        columns = [label, *self.schema_.columns]
        codes = np.c_[_codes(label, y), self.schema_.encode(frame)]
        wanted = [c for c, n in self.sampling_strategy_.items() if n > 0] or list(self.sampling_strategy_)
        targets = np.sort(_codes(label, np.array(wanted, dtype=y.dtype)))
        self.classes_ = label.values.iloc[targets].to_numpy()
        self._random = check_random_state(self.random_state)
        self._seed = int(self._random.randint(2**31))
        with _threads(self._n_threads()):
            self._build(columns, TableTokenizer(columns, _balanced_weights(columns, codes), self.n_bins) if self._setting("llm") == "embedded" else None)
            self._finetune(codes, targets)
        self._frequency = {int(t): [np.bincount(codes[codes[:, 0] == t, j], minlength=len(c)) for j, c in enumerate(columns)] for t in targets}
        return self

    def _build(self, columns, tokenizer):
        "Codec, grammar and model for a table; a `TableTokenizer` makes a fresh embedded model."
        self._trimmed, device = None, resolve_device(self.device)
        if tokenizer is not None:
            codec = Codec(columns, tokenizer)
            self.model_ = embedded_model(len(tokenizer.tokens), check_context(codec, None), self._seed)
        else:
            self.model_, self.tokenizer_ = load_llm(str(self._setting("llm")))
            full = Codec(columns, TextTokenizer(self.tokenizer_))
            check_context(full, context_limit(self.model_))
            self._trimmed = trim_vocabulary(self.model_, full.kept_ids())
            codec = full.renumbered(self._trimmed.kept)
        self.model_.to(device).eval()
        self._codec, self._grammar = codec, Grammar(codec).to(device)

    def _finetune(self, codes, targets):
        columns, codec, seed = self._codec.columns, self._codec, self._seed
        rng = np.random.default_rng(seed)
        counts = np.bincount(codes[:, 0], minlength=len(columns[0]))
        for t in targets[counts[targets] == 1]:
            warnings.warn(f"Class {columns[0].values.iloc[t]!r} has a single row: its new rows can only repeat the values of that row.", UserWarning, stacklevel=4)
        rows = codes if self.finetune_on == "major+minor" else codes[np.isin(codes[:, 0], targets)]
        rows, held = self._split(rows, rng) if self.early_stopping else (rows, None)
        source, n_inter = None, 0
        if self.finetune_on == "minor+interpolate":
            spelled = [j for j, letters in enumerate(codec.letters) if letters]
            source = Interpolation(columns, rows, self._setting("interpolate_categories"), self.k_neighbors if self._setting("interpolation") == "neighbors" else None, spelled)
            n_inter = round(self.interpolation_ratio * counts.max()) * len(source.groups)
        corpus = Corpus(codec, rows, source, n_inter, self.permutation, self._setting("batch_size"), seed)
        epochs = self._setting("epochs")
        on_gpu = next(self.model_.parameters()).device.type == "cuda"
        self.history_ = finetune(self.model_, corpus, EMBEDDED_STEPS if epochs is None else epochs * corpus.per_epoch, self._setting("learning_rate"),
            held_out=None if held is None else Corpus(codec, held, permutation=self.permutation, batch_size=256, seed=seed),
            checkpoint_dir=self.checkpoint_dir, checkpoint_every=self.checkpoint_every, fingerprint=self._fingerprint(codes),
            bf16=on_gpu if self.bf16 is None else self.bf16, seed=seed, verbose=bool(self.verbose))

    def _split(self, rows, rng):
        "Rows to train on and rows to hold out, at least one of each class to train on."
        order = rng.permutation(len(rows))
        n = round(self.validation_fraction * len(rows))
        first = np.unique(rows[order, 0], return_index=True)[1]
        held = np.setdiff1d(np.arange(len(rows)), first)[:n]
        if not len(held): return rows, None
        return rows[np.delete(order, held)], rows[order[held]]

    def _fingerprint(self, codes):
        "What identifies data and settings of a training run."
        h = hashlib.sha256(np.ascontiguousarray(codes).tobytes())
        h.update(repr([c.texts for c in self._codec.columns]).encode())
        ignored = {"checkpoint_dir", "checkpoint_every", "verbose", "n_jobs", "device", "temperature", "condition", "keep_original"}
        h.update(repr([(k, v) for k, v in sorted(self.get_params().items()) if k not in ignored] + [self._seed]).encode())
        return h.hexdigest()

    # --- sampling ---

    def _label_code(self, label):
        known = self.classes_.tolist()
        if label not in known: raise ValueError(f"label must be one of the classes that the model was fine-tuned on, {known}; got {label!r}.")
        return int(_codes(self._codec.columns[0], np.array([label], dtype=self.classes_.dtype))[0])

    def _given_codes(self, given):
        "Position, code and exact cell of each given value."
        names, out = self.schema_.names, {}
        for name, value in (given or {}).items():
            if name not in names: raise ValueError(f"given names the column {name!r}, which the table does not have; it has {names}.")
            col = self.schema_[names.index(name)]
            out[1 + names.index(name)] = _given_cell(col, value)
        return out

    def _sample_frame(self, n, label, given, seed, bar=""): return pd.concat(self._stream(n, label, given, seed, bar), ignore_index=True)

    def _stream(self, n, label, given, seed, bar=""):
        size = 1024 if self._trimmed is None else 128
        with _threads(self._n_threads()), tqdm(total=n, desc=f"sampling {bar}".strip(), disable=not self.verbose, delay=1, unit="row") as progress:
            for frame in sample_rows(self.model_, self._grammar, n, label, self._frequency[label], {j: c for j, (c, _) in given.items()},
                                     self.condition, self.permutation, self._setting("temperature"), seed, size):
                frame = frame.iloc[:, 1:]
                for j, (_, cell) in given.items(): frame.isetitem(j - 1, cell.iloc[np.zeros(len(frame), dtype=int)].reset_index(drop=True))
                progress.update(len(frame))
                yield frame

    def sample_stream(self,
        n:int, # How many rows
        label=None, # Their class; default: the rarest
        given:dict=None, # Cells that every row shall have, `{column: value}`
        random_state=None, # Seed; default: the estimator's own stream, which goes on from call to call
    ): # Iterator over frames
        """Sample `n` rows in frames of about a thousand, in memory that does not grow with `n`; arguments and errors as for `sample`."""
        if not hasattr(self, "model_"): raise ValueError("This ImbLLM is not fitted yet; call fit or fit_resample first.")
        if not isinstance(n, numbers.Integral) or n < 1: raise ValueError(f"n must be a whole number of at least 1; got {n!r}.")
        code = self._label_code(self._rarest() if label is None else label)
        seed = int((self._random if random_state is None else check_random_state(random_state)).randint(2**31))
        return self._stream(n, code, self._given_codes(given), seed)

    def sample(self,
        n:int, # How many rows
        label=None, # Their class; default: the rarest
        given:dict=None, # Cells that every row shall have, `{column: value}`
        random_state=None, # Seed; default: the estimator's own stream, which goes on from call to call
    ): # Rows, `(n, d)`, a DataFrame or an array as in `fit`
        """Sample exactly `n` new rows of one class, `(n, d)`, a frame or an array as the model was fitted on.

        `given` fixes cells by column name (`x0`, `x1`, ... for arrays); a category must have been observed, a number must lie in the observed range.
        Raises `ValueError` for an unknown label or column and `UnknownValueError` for a cell that cannot be.
        """
        frame = pd.concat(self.sample_stream(n, label, given, random_state), ignore_index=True)
        return frame.to_numpy() if self._as_array else frame

    def _rarest(self):
        sizes = {t: f[0].sum() for t, f in self._frequency.items()}
        return self._codec.columns[0].values.iloc[min(sizes, key=sizes.get)]

    # --- to disk and back ---

    def save(self,
        folder, # Folder to make
        overwrite:bool=False, # Replace it if it exists?
    ):
        """Save the fitted model to `folder`: safetensors and JSON, nothing pickled.

        `imbllm.json` lists what of the training data it holds: the distinct values of each column and how often each occurs per oversampled class, never rows.
        The folder appears complete or not at all. Raises `FileExistsError` if it exists, unless `overwrite`, and `TableError` for values that JSON cannot keep.
        """
        folder = Path(folder)
        if folder.exists() and not overwrite: raise FileExistsError(f"{folder} exists; choose another folder or pass overwrite=True.")
        part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        try:
            part.mkdir(parents=True)
            (part / "imbllm.json").write_text(json.dumps(self._state(), ensure_ascii=False, indent=1), encoding="utf-8")
            if self._trimmed is None: self.model_.save_pretrained(part)
            else:
                with untrimmed(self.model_, self._trimmed) as full: full.save_pretrained(part)
                self.tokenizer_.save_pretrained(part)
            if folder.exists(): shutil.rmtree(folder)
            os.replace(part, folder)
        finally: shutil.rmtree(part, ignore_errors=True)

    def _state(self):
        params = {k: v for k, v in self.get_params().items() if isinstance(v, (str, bool, int, float, type(None))) and k != "checkpoint_dir"}
        tokenizer = self._codec.tokenizer
        return dict(format=1, contains="distinct values of each column; counts of each value per oversampled class; no rows", params=params,
            columns=[column_to_json(c) for c in self._codec.columns], as_array=self._as_array,
            bins=tokenizer.bins if isinstance(tokenizer, TableTokenizer) else None, n_bins=self.n_bins,
            frequency={str(t): [f.tolist() for f in fs] for t, fs in self._frequency.items()})

    @classmethod
    def load(cls,
        folder, # Folder that `save` made
        device:str="auto", # Where to put the model
    ): # -> ImbLLM
        """Load a model that `save` wrote, ready to `sample`. Raises `ValueError` if the folder is not complete."""
        path = Path(folder) / "imbllm.json"
        try: state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as e: raise ValueError(f"{folder} holds no saved ImbLLM: {path.name} cannot be read ({e}).") from e
        self = cls(**{k: v for k, v in state["params"].items() if k in cls().get_params()})
        self.device = device
        columns = [column_from_json(d) for d in state["columns"]]
        self.schema_, self._as_array, self._random = Schema(columns[1:]), state["as_array"], check_random_state(self.random_state)
        self._seed = int(self._random.randint(2**31))
        if state["bins"] is None:
            wanted, self.llm = self.llm, str(folder)
            self._build(columns, None)
            self.llm = wanted
        else:
            self._build(columns, TableTokenizer(columns, n_bins=state["n_bins"], bins=state["bins"]))
            self.model_ = GPT2LMHeadModel.from_pretrained(folder).to(resolve_device(device)).eval()
        self._frequency = {int(t): [np.array(f) for f in fs] for t, fs in state["frequency"].items()}
        self.classes_ = columns[0].values.iloc[sorted(self._frequency)].to_numpy()
        return self

