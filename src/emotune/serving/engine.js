// The model of an offline page: texts in, labels and scores out, those of `emotune predict`.
//
// It runs in a worker or, where the browser allows none, in the page. `emotune.serving.offline` writes the settings:
// the tables of the tokenizer, the decision rule, the levels, the words of languages.

const BATCH_ROWS = 32; // as in Python; a batch has about 32 tokens a row
const MOST_EXPLAINED = 16; // texts of a request; each is scored once for each of its words
const MOST_PASSES = 128; // variants of a text that is explained, about
const TINY = 1e-9; // probabilities are clipped to it before their logarithm

const INVISIBLE = /^[\p{Z}\p{Cc}\p{Cf}]*$/u;
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // Python's
const WORD = "[\\p{L}\\p{N}_]"; // Python's \w
const LONE_SURROGATE = /^[\ud800-\udfff]$/u;

/** A request that is refused. */
class RequestError extends Error {
  constructor(status, message, hint = null) {
    super(message);
    Object.assign(this, { status, hint });
  }
}

const range = (number) => [...Array(number).keys()];
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
/** The positions of the values, the largest first; equal ones in their order. */
const ranked = (values) => range(values.length).sort((i, j) => values[j] - values[i] || i - j);

// --- tokens

/** Values of code points, from sorted runs [first, last, value]; undefined for those in no run. */
class Runs {
  constructor(runs) {
    this.runs = runs;
    this.known = new Map();
  }

  get(character) {
    if (!this.known.has(character)) this.known.set(character, this.find(character.codePointAt(0)));
    return this.known.get(character);
  }

  find(code) {
    let [low, high] = [0, this.runs.length - 1];
    while (low <= high) {
      const middle = (low + high) >> 1;
      const [first, last, value] = this.runs[middle];
      if (code >= first && code <= last) return value;
      if (code < first) high = middle - 1;
      else low = middle + 1;
    }
    return undefined;
  }
}

/** A tokenizer of words: each is a token of the vocabulary, or is cut into the longest ones (WordPiece). */
class Tokenizer {
  constructor(tables) {
    Object.assign(this, tables); // before, after: ids around each text; unknown, prefix, longest: of the model
    this.ids = new Map(Object.entries(tables.vocabulary));
    this.characters = new Runs(tables.characters);
    this.kinds = new Runs(tables.kinds);
    this.added = new Map(); // by their first characters, the longest first
    for (const token of tables.added) {
      const content = Array.from(token.content);
      if (!this.added.has(content[0])) this.added.set(content[0], []);
      this.added.get(content[0]).push({ ...token, content });
    }
    for (const tokens of this.added.values()) tokens.sort((a, b) => b.content.length - a.content.length);
    this.size = tables.max_tokens - tables.before.length - tables.after.length; // of a window
    this.repeated = Math.floor(this.size / 4); // tokens that the next window repeats
    this.known = new Map(); // words and their pieces
  }

  /** The tokens of a text: their ids, and the characters of the text up to the end of each. */
  encode(text) {
    const characters = Array.from(text, (c) => (LONE_SURROGATE.test(c) ? "?" : c));
    const found = { ids: [], ends: [] };
    let from = 0; // of the text that has no added token
    for (let i = 0; i < characters.length; ) {
      const isHere = ({ content }) => content.every((c, j) => characters[i + j] === c);
      const token = this.added.get(characters[i])?.find(isHere);
      if (token === undefined) {
        i += 1;
        continue;
      }
      let [start, stop] = [i, i + token.content.length];
      i = stop;
      if (token.single_word && (isWord(characters[start - 1]) || isWord(characters[stop]))) continue;
      if (token.lstrip) while (start > from && isBlank(characters[start - 1])) start -= 1;
      if (token.rstrip) while (isBlank(characters[stop])) stop += 1;
      this.addWords(characters, from, start, found);
      found.ids.push(token.id);
      found.ends.push(stop);
      i = from = stop;
    }
    this.addWords(characters, from, characters.length, found);
    return found;
  }

  addWords(characters, from, to, found) {
    let [word, ends, kind] = [[], [], ""];
    const finish = () => {
      if (word.length === 0) return;
      const [ids, lengths] = this.pieces(word);
      let length = 0;
      ids.forEach((id, i) => {
        length += lengths[i];
        found.ids.push(id);
        found.ends.push(ends[length - 1]);
      });
      [word, ends] = [[], []];
    };
    for (let i = from; i < to; i += 1) {
      const normal = this.characters.get(characters[i]);
      for (const c of normal === undefined ? [characters[i]] : normal.replace("\0", characters[i])) {
        const next = this.kinds.get(c) ?? "word";
        if (next !== kind || next === "alone") finish();
        kind = next;
        if (kind === "blank") continue;
        word.push(c);
        ends.push(i + 1);
      }
    }
    finish();
  }

  /** The ids of a word, and the characters of each; one unknown token for a word that the vocabulary cannot make. */
  pieces(characters) {
    const word = characters.join("");
    let found = this.known.get(word);
    if (found === undefined) {
      found = this.cut(characters) ?? [[this.unknown], [characters.length]];
      if (this.known.size > 50_000) this.known.clear();
      this.known.set(word, found);
    }
    return found;
  }

  cut(characters) {
    if (this.prefix === null) {
      const id = this.ids.get(characters.join(""));
      return id === undefined ? null : [[id], [characters.length]];
    }
    if (characters.length > this.longest) return null;
    const [ids, lengths] = [[], []];
    for (let start = 0; start < characters.length; ) {
      let end = characters.length;
      let id;
      for (; end > start; end -= 1) {
        id = this.ids.get((start ? this.prefix : "") + characters.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return null;
      ids.push(id);
      lengths.push(end - start);
      start = end;
    }
    return [ids, lengths];
  }

  /** The windows of a text, each the ids of a row: one, or several that overlap by a quarter. */
  windows(text) {
    const { ids } = this.encode(text);
    const rows = [];
    for (let start = 0; ; start += this.size - this.repeated) {
      rows.push([...this.before, ...ids.slice(start, start + this.size), ...this.after]);
      if (start + this.size >= ids.length) return rows;
    }
  }

  /** The text cut to what so many windows read, and the characters that are cut from its end. */
  within(text, maxWindows) {
    const room = this.size + (maxWindows - 1) * (this.size - this.repeated);
    if (text.length * 16 <= room) return [text, 0]; // a character has 16 tokens at most
    const characters = Array.from(text);
    let length = Math.min(characters.length, Math.max(1 << 20, room * 16));
    for (;;) {
      const start = length === characters.length ? text : characters.slice(0, length).join("");
      const { ids, ends } = this.encode(start);
      if (ids.length <= room) return [start, characters.length - length];
      length = Math.min(ends[room - 1], length - 1);
    }
  }
}

const isWord = (c) => c !== undefined && /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u.test(c);
const isBlank = (c) => c !== undefined && /^\p{White_Space}$/u.test(c);

// --- the decision rule: that of emotune/decision.py

class Decision {
  constructor({ labels, task, thresholds, fallback, neutral_excludes: neutralExcludes }) {
    Object.assign(this, { labels, task, thresholds, fallback, neutralExcludes });
    this.neutral = labels.indexOf("neutral");
  }

  probabilities(logits) {
    if (this.task === "multi_class") {
      const most = Math.max(...logits);
      const exponentials = Array.from(logits, (x) => Math.exp(x - most));
      const total = sum(exponentials);
      return exponentials.map((e) => e / total);
    }
    return Array.from(logits, (x) => {
      const e = Math.exp(-Math.abs(x));
      return x >= 0 ? 1 / (1 + e) : e / (1 + e);
    });
  }

  /** Whether each label is predicted. */
  decide(probabilities, thresholds = this.thresholds) {
    const best = probabilities.indexOf(Math.max(...probabilities));
    if (this.task === "multi_class") return probabilities.map((_, j) => j === best);
    const passed = probabilities.map((p, j) => p >= thresholds[j] && thresholds[j] < 1);
    if (this.neutralExcludes && passed.some((each, j) => each && j !== this.neutral)) passed[this.neutral] = false;
    if (!passed.includes(true)) {
      if (this.fallback === "best") passed[best] = true;
      if (this.fallback === "neutral") passed[this.neutral] = true;
    }
    return passed;
  }
}

// --- whether a text is English: that of emotune/data/language.py

class Language {
  constructor({ english, shared, foreign, latin }) {
    [this.english, this.shared, this.foreign] = [new Set(english), new Set(shared), new Set(foreign)];
    this.latin = new Runs(latin);
  }

  isForeign(whole) {
    let text = Array.from(whole).slice(0, 2000).join("");
    if (!isAscii(text)) {
      text = text.normalize("NFKC");
      const letters = text.match(/\p{L}/gu) ?? [];
      const others = letters.filter((c) => !isAscii(c) && this.latin.get(c) === undefined).length;
      if (others >= 2 && 2 * others > letters.length) return true;
    }
    const folded = text.toLowerCase().replaceAll("ß", "ss").replaceAll("ς", "σ").replaceAll("’", "'");
    const words = folded.match(/[\p{L}\p{Nl}\p{No}]+(?:'[\p{L}\p{Nl}\p{No}]+)*/gu) ?? [];
    const ofEnglish = words.filter((word) => this.english.has(word)).length;
    const ofOthers = words.filter((word) => this.foreign.has(word) || !isAscii(word)).length;
    if (ofOthers >= 2 && ofOthers > ofEnglish) return true;
    if (words.length < 5 || ofEnglish) return false;
    const like = words.filter((word) => this.shared.has(word) || /..(ing|ed|ly|ness|ful|'s)$/u.test(word)).length;
    return ofOthers > 0 || 5 * like < words.length;
  }
}

const isAscii = (text) => /^[\0-\x7f]*$/.test(text);

// --- explanations by occlusion: those of emotune/inference/explain.py

const EMOJI = "[\\u{1f000}-\\u{1faff}\\u2190-\\u21ff\\u2300-\\u23ff\\u2600-\\u27bf\\u2b00-\\u2bff]";
const ATTACHED = "[\\ufe0e\\ufe0f\\u20e3\\u{1f3fb}-\\u{1f3ff}\\u{e0020}-\\u{e007f}]";

/** The pattern of a word, an emoji, an emoticon, a placeholder or a run of punctuation. */
function wordPattern(emoticons) {
  const escaped = emoticons.map((each) => each.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  return new RegExp(
    "[\\u{1f1e6}-\\u{1f1ff}]{2}" +
      `|${EMOJI}${ATTACHED}*(?:\\u200d${EMOJI}${ATTACHED}*)*` +
      `|(?<!${WORD})(?:${escaped.join("|")})(?!${WORD})` +
      `|${WORD}+(?:['’\\-]${WORD}+)*` +
      `|\\[${WORD}+\\]` +
      `|(?:(?!${EMOJI}|\\[${WORD}+\\])[^\\p{L}\\p{N}_${SPACE}])+`,
    "gu",
  );
}

/** The parts of a text that are scored to explain it: their words with their places, and the texts without them. */
function occlude(text, numParts, pattern) {
  const spans = [...text.matchAll(pattern)]
    .filter(([word]) => word !== "." && word !== ",")
    .map(({ 0: word, index }) => [index, index + word.length]);
  const size = Math.ceil(spans.length / MOST_PASSES);
  return split(spans, numParts)
    .filter((part) => part.length)
    .map((part) => {
      const [first, last] = numParts === 1 ? [0, text.length] : [part[0][0], part.at(-1)[1]];
      const groups = range(Math.ceil(part.length / size)).map((i) => part.slice(i * size, (i + 1) * size));
      const words = groups.map((group) => [group[0][0], group.at(-1)[1]]);
      const own = text.slice(first, last);
      return {
        text: own,
        share: part.length / spans.length,
        words,
        without: words.map(([start, end]) => removed(own, start - first, end - first)),
      };
    });
}

/** The items in so many parts of almost equal length, the longer ones first. */
function split(items, number) {
  const [size, longer] = [Math.floor(items.length / number), items.length % number];
  const start = (i) => i * size + Math.min(i, longer);
  return range(number).map((i) => items.slice(start(i), start(i + 1)));
}

/** The text without a span; no blanks are doubled and no words joined. */
function removed(text, start, end) {
  const [left, right] = [text.slice(0, start), text.slice(end)];
  const stripped = (each, where) => each.replace(new RegExp(where, "gu"), "");
  if (!left || !right) return stripped(left + right, `^[${SPACE}]+|[${SPACE}]+$`);
  const [before, after] = [Array.from(left).at(-1), Array.from(right)[0]];
  const space = new RegExp(`[${SPACE}]`, "u");
  if (space.test(before) && space.test(after)) return left + stripped(right, `^[${SPACE}]+`);
  const alphanumeric = /[\p{L}\p{N}]/u;
  return alphanumeric.test(before) && alphanumeric.test(after) ? `${left} ${right}` : left + right;
}

// --- the model

/** A model, open in ONNX Runtime: answers `models` and `predict` as a server does. */
class Model {
  constructor(settings, run) {
    this.run = run; // rows of one length → logits of each
    this.info = settings.info;
    this.maxWindows = settings.max_windows;
    this.levels = settings.levels;
    this.tokenizer = new Tokenizer(settings.tokenizer);
    this.decision = new Decision(settings.decision);
    this.language = settings.language && new Language(settings.language);
    this.pattern = wordPattern(settings.emoticons);
  }

  models() {
    return { models: [this.info] };
  }

  /** The answer to a request; `turn` is awaited between batches, and may reject to cancel. */
  async predict(body, turn = async () => {}) {
    const form = checked(body, this.info);
    const { thresholds, level } = form;
    const distinct = [...new Set(form.texts)];
    const answered = new Map();
    const scored = await this.score(distinct.filter((text) => !INVISIBLE.test(text)), this.maxWindows, turn);
    for (const text of distinct) answered.set(text, this.prediction(text, scored.get(text), thresholds, level));
    if (form.explain) await this.explain(answered, turn);
    return {
      model: this.info.name,
      level: level ?? null,
      thresholds: this.decision.task === "multi_label" && !level ? named(this.decision.labels, thresholds) : null,
      predictions: form.texts.map((text) => shown(answered.get(text), form.top_k, form.explain)),
    };
  }

  prediction(text, found, thresholds, level) {
    const { decision } = this;
    if (found === undefined) {
      return { text, names: [], labels: [], values: [], windows: 0, unread: 0, foreign: false, blank: true, words: [] };
    }
    let values = decision.probabilities(found.logits);
    let passed = decision.decide(values, thresholds);
    let names = decision.labels;
    if (level) {
      const members = Object.values(this.levels[level]).map((each) => each.map((name) => names.indexOf(name)));
      names = Object.keys(this.levels[level]);
      passed = members.map((each) => each.some((j) => passed[j]));
      values = members.map((each) => Math.max(...each.map((j) => values[j])));
    }
    const labels = ranked(values).filter((j) => passed[j]).map((j) => names[j]);
    const foreign = this.language !== null && this.language.isForeign(text);
    return { text, names, labels, values, windows: found.windows, unread: found.unread, foreign, blank: false };
  }

  /** Add the words of each text, with what each contributes to the score of each label. */
  async explain(answered, turn) {
    const plans = new Map();
    for (const each of answered.values()) {
      if (each.blank) continue;
      const characters = Array.from(each.text);
      const read = characters.slice(0, characters.length - each.unread).join("");
      plans.set(each, occlude(read, each.windows, this.pattern));
    }
    const variants = [...plans.values()].flat().flatMap((part) => [...part.without, part.text]);
    const scored = await this.score([...new Set(variants)], null, turn);
    for (const [each, parts] of plans) {
      each.words = parts.flatMap((part) => this.contributions(each, part, parts.length, scored));
    }
  }

  contributions(prediction, part, numParts, scored) {
    const { text, values } = prediction;
    const p = values.map((value) => Math.min(1 - TINY, Math.max(TINY, value)));
    // the text's logits, in a softmax up to a constant
    const whole = p.map((value) => Math.log(value) - (this.decision.task === "multi_class" ? 0 : Math.log1p(-value)));
    return part.words.map(([start, end], i) => {
      let { logits } = scored.get(part.without[i]);
      if (numParts > 1) {
        const own = scored.get(part.text).logits;
        logits = whole.map((value, j) => value - part.share * (own[j] - logits[j]));
      }
      const without = this.decision.probabilities(logits);
      const before = Array.from(text.slice(0, start)).length; // places are counted in characters, not in UTF-16 units
      return {
        word: text.slice(start, end),
        start: before,
        end: before + Array.from(text.slice(start, end)).length,
        contributions: values.map((value, j) => value - without[j]),
      };
    });
  }

  /** The logits, windows and unread characters of each text, by text. maxWindows: null to read texts whole. */
  async score(texts, maxWindows, turn) {
    const unread = new Map();
    const windows = new Map(
      texts.map((text) => {
        const [read, cut] = maxWindows === null ? [text, 0] : this.tokenizer.within(text, maxWindows);
        unread.set(text, cut);
        return [text, this.tokenizer.windows(read).map((row) => (row.length ? row : [0]))];
      }),
    );
    const rows = await this.scoreRows([...windows.values()].flat(), turn);
    return new Map(
      texts.map((text) => {
        const own = windows.get(text);
        const logits = averaged(own, own.map((row) => rows.get(row.join())));
        return [text, { logits, windows: own.length, unread: unread.get(text) }];
      }),
    );
  }

  /** The logits of each distinct row, by its ids. A batch has rows of one length, so none is padded. */
  async scoreRows(rows, turn) {
    const distinct = [...new Map(rows.map((row) => [row.join(), row])).values()].sort((a, b) => b.length - a.length);
    const found = new Map();
    for (let i = 0; i < distinct.length; ) {
      const { length } = distinct[i];
      const most = Math.max(1, Math.min(BATCH_ROWS, Math.floor((BATCH_ROWS * 32) / length)));
      const batch = distinct.slice(i, i + most).filter((row) => row.length === length);
      await turn(i, distinct.length);
      const logits = await this.run(batch);
      batch.forEach((row, j) => found.set(row.join(), logits[j]));
      i += batch.length;
    }
    return found;
  }
}

/** The values of windows, averaged with the tokens of each as weights. */
function averaged(rows, values) {
  if (rows.length === 1) return values[0];
  const total = sum(rows.map((row) => row.length));
  return Float32Array.from(values[0], (_, j) => sum(rows.map((row, i) => row.length * values[i][j])) / total);
}

const named = (names, values) => Object.fromEntries(names.map((name, j) => [name, values[j]]));

function shown({ names, values, words, ...prediction }, topK, explain) {
  const { text, labels, windows, unread, foreign, blank } = prediction;
  const kept = topK == null ? range(names.length) : ranked(values).slice(0, topK);
  const pick = (numbers) => Object.fromEntries(kept.map((j) => [names[j], numbers[j]]));
  const found = { text, labels, scores: pick(values), windows, unread, foreign, blank };
  if (explain) found.words = words.map((word) => ({ ...word, contributions: pick(word.contributions) }));
  return found;
}

const KEYS = ["text", "texts", "model", "level", "threshold", "top_k", "explain"];

/** The content of a request, with its texts and thresholds; throws RequestError. */
function checked(body, info) {
  const refuse = (message, hint, status = 422) => {
    throw new RequestError(status, message, hint);
  };
  const allowed = (names) => `Allowed: ${names.join(", ")}.`;
  const { text = null, texts = null, model = null, level = null, threshold = null, top_k: topK = null } = body;
  const unknown = Object.keys(body).find((key) => !KEYS.includes(key));
  if (unknown !== undefined) refuse(`unknown key '${unknown}'`, allowed(KEYS));
  if ((text === null) === (texts === null)) refuse("one of the keys 'text' and 'texts' is required, and not both");
  const all = texts ?? [text];
  if (!Array.isArray(all) || !all.every((each) => typeof each === "string")) {
    refuse("texts: a list of texts is expected");
  }
  if (model !== null && model !== info.name) {
    refuse(`no model named '${model}' is in this page`, allowed([info.name]), 404);
  }
  if (level !== null && !info.levels.includes(level)) {
    const hint = info.levels.length ? allowed(info.levels) : "Only models of a known label set have coarser levels.";
    refuse(`these labels have no level '${level}'`, hint);
  }
  if (threshold !== null) {
    if (!(threshold >= 0 && threshold <= 1)) refuse("threshold: a number from 0 to 1 is expected");
    if (info.thresholds === null) refuse("a multi-class model predicts the most probable label; it has no threshold");
  }
  if (topK !== null && !(Number.isInteger(topK) && topK >= 1)) refuse("top_k: an integer from 1 on is expected");
  const explain = Boolean(body.explain);
  if (explain && (level !== null || threshold !== null)) {
    refuse("'explain' is for the model's own labels and thresholds: without 'level' and 'threshold'");
  }
  if (explain && all.length > MOST_EXPLAINED) {
    const hint = `Explain at most ${MOST_EXPLAINED} at a time.`;
    refuse(`texts has ${all.length} texts, which are to be explained`, hint, 413);
  }
  const thresholds = info.labels.map((name) => threshold ?? info.thresholds?.[name]);
  return { texts: all, level, thresholds, top_k: topK, explain };
}

// --- opening

/** Return the bytes of base64, in a browser whose library cannot. */
function decoded(base64) {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Return the bytes of gzipped base64; `count` is called with the bytes of each piece. */
async function unpacked(base64, count = () => {}) {
  const packed = Uint8Array.fromBase64 ? Uint8Array.fromBase64(base64) : decoded(base64);
  const pieces = [];
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    pieces.push(piece.value);
    count(piece.value.length);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

/** Open the model in `parts`: `settings`, `graph`, `runtime` and `wasm`, each gzipped base64. */
async function open(parts, progress) {
  if (typeof DecompressionStream === "undefined" || typeof WebAssembly === "undefined") {
    throw new RequestError(500, "this browser is too old", "Use Chrome 111, Firefox 121, Safari 16.4, or a newer one.");
  }
  const settings = JSON.parse(new TextDecoder().decode(await unpacked(parts.settings)));
  let done = 0;
  const count = (bytes) => progress((done += bytes) / settings.bytes);
  const [runtime, wasm] = [await unpacked(parts.runtime, count), await unpacked(parts.wasm, count)];
  const graph = await unpacked(parts.graph, count);
  const url = URL.createObjectURL(new Blob([runtime], { type: "text/javascript" }));
  const ort = await import(url);
  URL.revokeObjectURL(url);
  Object.assign(ort.env.wasm, { wasmBinary: wasm, numThreads: 1, proxy: false });
  const session = await ort.InferenceSession.create(graph, {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "basic", // int8 weights are expanded once
    enableMemPattern: false,
  });
  const integers = (values, shape) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);
  const packed = session.inputNames.includes("lengths");
  const run = async (rows) => {
    const ids = rows.flat();
    const inputs = { input_ids: integers(ids, packed ? [ids.length] : [rows.length, rows[0].length]) };
    if (packed) inputs.lengths = integers(rows.map((row) => row.length), [rows.length]);
    const { data, dims } = (await session.run(inputs)).logits;
    const logits = rows.map((_, i) => data.slice(i * dims[1], (i + 1) * dims[1]));
    if (!data.every(Number.isFinite)) throw new RequestError(500, "this model computes infinite or NaN scores");
    return logits;
  };
  return new Model(settings, run);
}

// --- the worker

const pause = () => new Promise((resolve) => setTimeout(resolve));

/** Answer the messages of a page: `open` with its parts, `predict` with a body, and `cancel`. */
function serve() {
  let model = null;
  const running = new Set();
  self.onmessage = async ({ data: { id, method, content } }) => {
    if (method === "cancel") {
      running.delete(id);
      return;
    }
    running.add(id);
    try {
      let value = null;
      if (method === "open") {
        model = await open(content, (share) => self.postMessage({ share }));
        value = model.models();
      } else {
        value = await model.predict(content, async (done) => {
          if (done) await pause(); // a message may cancel it
          if (!running.has(id)) throw new RequestError(499, "cancelled");
        });
      }
      self.postMessage({ id, value });
    } catch ({ message, hint = null, status = 500 }) {
      self.postMessage({ id, error: { message, hint, status } });
    } finally {
      running.delete(id);
    }
  };
}

if (typeof document === "undefined") serve();
else globalThis.openModel = open;
