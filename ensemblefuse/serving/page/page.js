"use strict";

// All text from the model, the server and the user enters the page as text or as an attribute, never as HTML. Widths
// and colours are set on the elements, because the policy of the page allows no style in its markup. The colours are
// those of theme.css, which reports have, too: positive is blue and to the right, negative orange and to the left.

const $ = (id) => document.getElementById(id);
const LONGEST_RECORDING = 60; // seconds
const MOST_PARTS = 12;
const PATIENCE = 30; // seconds in addition to the server's own limit, for the network

let model = null; // the answer of /model
let token = ""; // only in memory: gone with the page
let fields = [];
let asked = null; // the row of the last prediction, with its files; "Why?" is about this one
let edits = 0; // changes of the fields so far
let busy = false;

/** An error whose message is shown to the user in one line. */
class Problem extends Error {}

// ---------------------------------------------------------------------- elements and numbers

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A name from the user, in its own direction of writing. */
const named = (text) => el("bdi", {}, String(text));

/** Names with commas between them, each in its own element. */
const listed = (names) => names.flatMap((name, i) => (i ? [", ", named(name)] : [named(name)]));

function percent(p) {
  if (p > 0 && p < 0.0005) return "<0.1%";
  return p < 1 && p > 0.9995 ? ">99.9%" : `${(100 * p).toFixed(1)}%`;
}

function number(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text =
    size && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : value.toFixed(size < 10 ? 3 : size < 100 ? 2 : 1);
  return text.replaceAll("-", "−");
}

/** A number as it would be typed, with as few digits as tell it from its neighbours of six digits. */
const plainNumber = (value, minus = "−") => String(Number(value.toPrecision(6))).replaceAll("-", minus);

const signed = (value) => (value > 0 ? `+${number(value)}` : number(value));

const size = (n) => (n < 1e6 ? `${Math.max(1, Math.round(n / 1e3))} kB` : `${(n / 1e6).toFixed(1)} MB`);

function bar(share) {
  const inner = el("i");
  inner.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  return el("span", { class: "bar", "aria-hidden": "true" }, inner);
}

/** A bar to the right of the middle is positive; all bars of an explanation have one scale. */
function signedBar(value, most, kind) {
  const inner = el("i", { class: kind || (value < 0 ? "minus" : "plus") });
  const width = Math.min(50, (50 * Math.abs(value)) / (most || 1));
  inner.style.left = `${value < 0 ? 50 - width : 50}%`;
  inner.style.width = `${width}%`;
  return el("span", { class: "bar signed", "aria-hidden": "true" }, inner);
}

/** A table with one heading per row; each row is [heading, number, bar]. */
function table(caption, headings, rows) {
  const head = headings.map((name, i) => el("th", { scope: "col", class: ["", "n", "drawn"][i] }, name));
  const body = rows.map(([name, value, drawn]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, ...[name].flat()),
      el("td", { class: "n" }, value),
      el("td", { class: "drawn" }, drawn),
    ),
  );
  return el(
    "table",
    {},
    el("caption", {}, ...[caption].flat()),
    el("thead", {}, el("tr", {}, ...head)),
    el("tbody", {}, ...body),
  );
}

// ---------------------------------------------------------------------- the server

/** Return the answer of the server, or throw a Problem with the reason in one line. */
async function ask(path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response, text;
  try {
    const signal = AbortSignal.timeout(1000 * ((model ? model.limits.timeout : 30) + PATIENCE));
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body, signal, cache: "no-store" });
    text = await response.text();
  } catch {
    throw new Problem("The server does not answer, or closed the connection. Is it still running?");
  }
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    // Reported below: a body that is not JSON is not an answer.
  }
  const known = answer !== null && typeof answer === "object";
  if (known && (response.ok || (response.status === 422 && Array.isArray(answer.errors)))) return answer;
  const said = known && typeof answer.error === "string" ? ` The server says: ${answer.error}` : "";
  if (response.status === 401) askForToken();
  // The form for the first token needs no further message.
  throw new Problem(response.status === 401 && !token ? "" : why(response) + said);
}

function why(response) {
  const wait = response.headers.get("Retry-After");
  const again = wait && /^\d+$/.test(wait) ? `try again in ${wait} s` : "try again in a moment";
  return (
    {
      401: "The server does not know this token.",
      413: "The row is larger than the server allows.",
      503: `The server is busy or not ready; ${again}.`,
      504: "The server exceeded its own time limit.",
    }[response.status] || `The server answered with status ${response.status} and no message for this page.`
  );
}

/** Show a problem; with an empty text, hide it. */
function tell(text = "") {
  $("problem").hidden = !text;
  $("problem").textContent = text;
}

/** Run one action at a time; show its errors, and enable the buttons again in any case. */
async function once(work, button) {
  if (busy) return;
  busy = true;
  const focused = document.activeElement;
  const label = button?.textContent;
  if (button) button.textContent = "Working…";
  setBusy();
  tell();
  try {
    await work();
  } catch (error) {
    tell(error instanceof Problem ? error.message : `The page failed: ${error}`);
    $("problem").scrollIntoView({ block: "nearest" });
  }
  busy = false;
  if (button) button.textContent = label;
  setBusy();
  if (document.activeElement === document.body && focused) focused.focus();
}

function setBusy() {
  for (const button of document.querySelectorAll("#columns button, #token-form button"))
    button.disabled = busy || "off" in button.dataset;
  $("columns").setAttribute("aria-busy", busy);
}

function askForToken() {
  $("token-form").hidden = false;
  $("token").focus();
}

// ---------------------------------------------------------------------- fields

const HINTS = {
  image: "or drop a picture here, or paste one",
  audio: "or drop a sound here",
  video: "or drop a video here",
  boolean: "true or false",
  date: "A date in ISO 8601, such as 2026-01-31",
  duration: "A length of time, such as 2 days 06:30:00",
  series: "A list of numbers in JSON, such as [0.5, 1, -2]",
  embedding: "A list of numbers in JSON, such as [0.5, 1, -2], or the key of a vector as text",
  graph: 'JSON, such as {"edge_index": [[0, 1], [1, 2]], "num_nodes": 3}',
};
// For these the schema does not say which of the two a cell is; the first is the usual one.
const EITHER = { object: ["text", "JSON"], embedding: ["JSON", "text"] };
const MEDIA = ["image", "audio", "video"];
const JSON_KINDS = ["series", "embedding", "graph", "object", "JSON"];

function makeField(name, spec, i) {
  const id = `field-${i}`;
  const field = { name, spec, id, input: null, recording: null };
  if (MEDIA.includes(spec.type)) mediaField(field);
  else textField(field);
  field.input.id = id;
  field.input.setAttribute("aria-describedby", `${id}-hint ${id}-outside ${id}-error`);
  field.error = el("p", { class: "error", id: `${id}-error` });
  const far = "Outside the range of fit: the model saw no such number.";
  field.outside = el("p", { class: "warning", id: `${id}-outside` }, far);
  field.error.hidden = field.outside.hidden = true;
  const kind = [...new Set([spec.type, ...spec.modalities])].filter((word) => word !== name).join(", ");
  const label = el("label", { for: id }, named(name), ...(kind ? [" ", el("span", { class: "kind" }, kind)] : []));
  field.node = el("div", { class: "field" }, label, field.control, field.outside, field.error);
  return field;
}

function hintOf(field, text) {
  return el("p", { class: "hint", id: `${field.id}-hint` }, text);
}

function textField(field) {
  const type = field.spec.type;
  const short = ["number", "category", "boolean", "date", "duration"].includes(type);
  field.input = short ? el("input", { type: "text", autocomplete: "off" }) : el("textarea", { rows: 2 });
  if (type === "number") field.input.inputMode = "decimal";
  const { range } = field.spec;
  const written = field.spec.written ? `Written in fit as ${field.spec.written}. ` : "";
  const hint = range ? `In fit from ${plainNumber(range[0])} to ${plainNumber(range[1])}` : written && type !== "date" ? "" : HINTS[type];
  field.control = el("div", {}, ...(hint || written ? [hintOf(field, written + (hint || ""))] : []), field.input);
  if (EITHER[type]) {
    field.as = el("select", {}, ...EITHER[type].map((kind) => el("option", {}, kind)));
    field.control.prepend(el("label", { class: "hint as" }, "The cell is ", field.as));
  }
  field.clear = () => (field.input.value = "");
  field.isEmpty = () => !field.input.value.trim();
  // A number that the page filled in is one; what is typed is read as the texts of fit were, where 1.234 may be 1234.
  let filled = { text: null };
  field.read = () => {
    const text = field.input.value;
    if (written && text === filled.text) return filled.cell;
    return written && type === "number" ? text.trim() : readText(text, field.as?.value || type);
  };
  field.fill = (cell) => {
    const isText = typeof cell === "string";
    if (field.as) field.as.value = isText ? "text" : "JSON";
    field.input.value = isText ? cell : type === "number" ? plainNumber(cell, "-") : JSON.stringify(cell);
    filled = { text: field.input.value, cell };
  };
}

/** Whether a number is smaller or larger than all numbers of fit in its column. */
const isOutside = (spec, value) =>
  Array.isArray(spec?.range) && Number.isFinite(value) && (value < spec.range[0] || value > spec.range[1]);

/** Mark a field whose number is outside the range of fit. */
function markOutside(field) {
  const text = field.spec.range ? field.input.value.trim() : "";
  const outside = text !== "" && isOutside(field.spec, Number(text));
  field.outside.hidden = !outside;
  field.input.classList.toggle("outside", outside);
}

function readText(text, type) {
  if (["boolean", "date", "duration"].includes(type)) return text.trim();
  if (!["number", ...JSON_KINDS].includes(type)) return text;
  if (type === "number") {
    const value = Number(text.trim());
    if (!Number.isFinite(value)) throw new Problem(`“${text.trim()}” is not a number; write one such as 12.5`);
    return value;
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Problem(`This is not JSON (${error.message}).`);
  }
}

/** The file input holds the one file that was chosen, dropped, pasted or recorded. */
function mediaField(field) {
  const type = field.spec.type;
  field.input = el("input", { type: "file", accept: `${type}/*` });
  field.preview = el("div", { class: "preview" });
  field.zone = el("div", { class: "zone" }, field.input, hintOf(field, HINTS[type]));
  if (type === "audio") field.zone.append(recorder(field));
  field.zone.append(field.preview);
  field.control = field.zone;
  field.isEmpty = () => !field.input.files.length;
  field.clear = () => {
    field.recording?.discard();
    field.put(null);
  };
  field.put = (file) => {
    const files = new DataTransfer();
    if (file) files.items.add(file);
    field.input.files = files.files;
    field.input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  field.fill = (cell) => {
    if (typeof cell?.base64 !== "string") return;
    const bytes = Uint8Array.from(atob(cell.base64), (sign) => sign.charCodeAt(0));
    field.put(new File([bytes], "example"));
  };
  field.read = async (files) => {
    const part = `upload-${files.size}`;
    files.set(part, await copyOf(field.input.files[0], files));
    return { upload: part };
  };
  field.input.addEventListener("change", () => {
    field.recording?.discard();
    showPreview(field);
  });
  const over = (event, on) => {
    event.preventDefault();
    field.zone.classList.toggle("over", on);
  };
  field.zone.addEventListener("dragover", (event) => over(event, true));
  field.zone.addEventListener("dragleave", (event) => over(event, false));
  field.zone.addEventListener("drop", (event) => {
    over(event, false);
    take(field, event.dataTransfer.files);
  });
}

/** A copy of a file, so that the explained file is the predicted one, even if it changes on the disk. */
async function copyOf(file, others) {
  const bytes = [file, ...others.values()].reduce((sum, one) => sum + one.size, 0);
  const most = model.limits.max_body;
  if (bytes > most) throw new Problem(`The files have ${size(bytes)}; the server allows ${size(most)} per request.`);
  try {
    return new File([await file.arrayBuffer()], file.name, { type: file.type });
  } catch {
    throw new Problem("The file was changed, moved or deleted since it was chosen; choose it again.");
  }
}

function take(field, files) {
  if (!files.length)
    return setError(field, "This is not a file. Save it first, then drop or choose the file.");
  field.put(files[0]);
  if (files.length > 1) setError(field, `Only one of ${files.length} files is used: ${files[0].name}`);
}

function showPreview(field) {
  if (field.url) URL.revokeObjectURL(field.url);
  const file = field.input.files[0];
  field.url = file ? URL.createObjectURL(file) : null;
  if (!file) return field.preview.replaceChildren();
  const type = field.spec.type;
  const shown =
    type === "image"
      ? el("img", { alt: `preview of ${file.name}` })
      : el(type, { controls: "", "aria-label": file.name });
  shown.addEventListener("error", () =>
    shown.replaceWith(
      el("p", { class: "hint" }, "This browser cannot show or play the file; the model may still be able to read it."),
    ),
  );
  shown.src = field.url;
  const remove = el("button", { type: "button", "aria-label": `Remove ${file.name}` }, "Remove");
  remove.addEventListener("click", () => {
    field.clear();
    field.input.focus();
  });
  field.preview.replaceChildren(
    shown,
    el("div", { class: "line" }, remove, el("span", { class: "hint" }, size(file.size))),
  );
}

function setError(field, text) {
  field.error.textContent = text;
  field.error.hidden = !text;
  if (text) field.input.setAttribute("aria-invalid", "true");
  else field.input.removeAttribute("aria-invalid");
}

// ---------------------------------------------------------------------- the microphone

function recorder(field) {
  const button = el("button", { type: "button" }, "Record");
  const line = el("div", { class: "line" }, button);
  if (!window.isSecureContext || !navigator.mediaDevices || !window.MediaRecorder) {
    button.disabled = true;
    button.dataset.off = "";
    const reason = window.isSecureContext
      ? "This browser cannot record."
      : "Recording works only on this machine's own address (127.0.0.1) or over https.";
    line.append(el("span", { class: "hint" }, reason));
    return line;
  }
  button.addEventListener("click", () => (field.recording ? field.recording.stop() : record(field, button)));
  return line;
}

async function record(field, button) {
  setError(field, "");
  let stream;
  button.disabled = true;
  try {
    // The sound may not be speech, so nothing is filtered out of it.
    stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false } });
  } catch (error) {
    const reason = {
      NotAllowedError: "the browser was not allowed to use the microphone",
      NotFoundError: "there is no microphone",
    };
    return setError(field, `Nothing is recorded: ${reason[error.name] || error.message}.`);
  } finally {
    button.disabled = busy;
  }
  const machine = new MediaRecorder(stream, { audioBitsPerSecond: 256000 });
  let kept = true;
  const pieces = [];
  const start = Date.now();
  const most = Math.min(LONGEST_RECORDING, model.limits.max_seconds);
  const tick = () => {
    const seconds = (Date.now() - start) / 1000;
    button.textContent = `Stop (${Math.floor(seconds)} of at most ${most} s)`;
    if (seconds >= most) field.recording?.stop();
  };
  const clock = setInterval(tick, 250);
  machine.addEventListener("dataavailable", (event) => pieces.push(event.data));
  machine.addEventListener("stop", async () => {
    clearInterval(clock);
    for (const track of stream.getTracks()) track.stop();
    const made = kept && (await wavOf(new Blob(pieces)).catch((error) => error));
    field.recording = null;
    button.textContent = "Record";
    if (kept && made instanceof File) field.put(made);
    else if (kept) setError(field, `The recording cannot be read: ${made.message}`);
  });
  const end = (keep) => {
    kept = keep;
    if (machine.state !== "inactive") machine.stop();
  };
  field.recording = { stop: () => end(true), discard: () => end(false) };
  tick();
  machine.start();
}

/** A recording in any format of the browser, as a WAV file of one channel with 16 bits. */
async function wavOf(blob) {
  const context = new AudioContext();
  const sound = await context.decodeAudioData(await blob.arrayBuffer());
  await context.close();
  const channels = Array.from({ length: sound.numberOfChannels }, (_, c) => sound.getChannelData(c));
  const data = new DataView(new ArrayBuffer(44 + 2 * sound.length));
  const word = (at, text) => [...text].forEach((sign, i) => data.setUint8(at + i, sign.charCodeAt(0)));
  word(0, "RIFF");
  data.setUint32(4, 36 + 2 * sound.length, true);
  word(8, "WAVEfmt ");
  data.setUint32(16, 16, true); // bytes of this chunk
  data.setUint16(20, 1, true); // PCM
  data.setUint16(22, 1, true); // channels
  data.setUint32(24, sound.sampleRate, true);
  data.setUint32(28, 2 * sound.sampleRate, true); // bytes a second
  data.setUint16(32, 2, true); // bytes a frame
  data.setUint16(34, 16, true); // bits a sample
  word(36, "data");
  data.setUint32(40, 2 * sound.length, true);
  for (let i = 0; i < sound.length; i++) {
    const mean = channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length;
    data.setInt16(44 + 2 * i, Math.round(32767 * Math.min(1, Math.max(-1, mean))), true);
  }
  return new File([data], "recording.wav", { type: "audio/wav" });
}

// ---------------------------------------------------------------------- predict

/** The row as JSON with its files; null if a field cannot be read; the reason is shown at the field. */
async function readRow() {
  const files = new Map();
  const cells = [];
  let bad = null;
  for (const field of fields) {
    setError(field, "");
    try {
      if (field.recording) throw new Problem("This is still recording; stop it first.");
      if (!field.isEmpty()) cells.push([field.name, await field.read(files)]);
    } catch (error) {
      setError(field, error.message);
      bad = bad || field;
    }
  }
  bad?.input.focus();
  // fromEntries, because a column may have the name __proto__.
  return bad ? null : { row: Object.fromEntries(cells), files };
}

function bodyOf(name, value, files, others = {}) {
  const body = new FormData();
  body.append(name, JSON.stringify(value));
  for (const [key, other] of Object.entries(others)) body.append(key, JSON.stringify(other));
  for (const [part, file] of files) body.append(part, file, file.name);
  return body;
}

async function predict() {
  const before = edits;
  const given = await readRow();
  if (!given) return showErrors([]);
  forget("Working…");
  const answer = await ask("predict", bodyOf("rows", [given.row], given.files)).finally(() => forget());
  const [prediction] = answer.predictions || [];
  if (prediction) {
    asked = { ...given, prediction };
    showPrediction(prediction);
    if (edits !== before) noteChange();
  }
  if (answer.errors?.length) showErrors(answer.errors);
  else if (!prediction) throw new Problem("The server answered without a prediction and without saying why.");
}

/** Show each error at its field; errors without a field, and names of bad fields, are in the line above. */
function showErrors(errors) {
  const rest = [];
  for (const { field: name, reason } of errors) {
    const field = fields.find((one) => one.name === name);
    if (field) setError(field, field.error.hidden ? reason : `${field.error.textContent}; ${reason}`);
    else rest.push(name ? `${name}: ${reason}` : reason);
  }
  const bad = fields.filter((field) => !field.error.hidden);
  bad[0]?.input.focus();
  const told = bad.length
    ? [`Cannot be read: ${bad.map((field) => field.name).join(", ")}; the reason is shown at the field.`]
    : [];
  tell([...told, ...rest].join(" "));
}

/** Remove the last result. */
function forget(text = "No prediction yet.") {
  asked = null;
  $("said").replaceChildren(el("p", { class: "soft" }, text));
  $("asking").hidden = $("inside").hidden = true;
  $("shares-said").textContent = "";
  for (const id of ["ranking", "basis", "shares", "parts"]) $(id).replaceChildren();
}

function showPrediction(said) {
  const shown = (value, classes) => named(classes ? value : number(value));
  const lines = model.tasks
    ? Object.entries(model.tasks).map(([task, classes]) =>
        el("p", { class: "said" }, named(task), ": ", shown(said.prediction[task], classes)),
      )
    : [el("p", { class: "said" }, shown(said.prediction, model.classes))];
  if (model.tasks) {
    const tables = Object.entries(said.probabilities || {}).map(([task, given]) => ranking(given, `${task}: `));
    $("ranking").replaceChildren(...tables);
  } else if (said.probabilities) {
    lines.push(el("p", { class: "certain" }, `Certainty ${percent(said.certainty)}`), bar(said.certainty));
    $("ranking").replaceChildren(ranking(said.probabilities));
  }
  // For a conformal model, which predicts sets of classes with a promised coverage.
  if (said.set)
    lines.push(el("p", {}, "Possible classes: ", ...(said.set.length ? listed(said.set) : ["none"])));
  if (said.interval) {
    const [lower, upper] = said.interval.map((end, i) => (end === null ? (i ? "∞" : "−∞") : number(end)));
    lines.push(el("p", {}, `Interval: ${lower} to ${upper}`));
  }
  if (said.calibrated === false) {
    const what = said.set ? "set of classes" : "interval";
    lines.push(el("p", {}, `No row of fit held this combination of modalities: no coverage is promised for the ${what}.`));
  }
  $("said").replaceChildren(...lines);
  const used = said.modalities.length
    ? ["Used: ", ...listed(said.modalities), ". "]
    : ["No modality was present. "];
  const missing = said.missing.length ? ["Missing: ", ...listed(said.missing), "."] : ["Nothing was missing."];
  const outside = Object.entries(asked.row).filter(([name, value]) => isOutside(model.input[name], value));
  const far = outside.map(([name, value]) => {
    const [low, high] = model.input[name].range.map((end) => plainNumber(end));
    const told = ` = ${plainNumber(value)} is outside the range of fit, ${low} to ${high}: the model saw no such number.`;
    return el("p", { class: "warning" }, named(name), told);
  });
  $("basis").replaceChildren(el("p", {}, ...used, ...missing), ...far, el("p", { class: "soft" }, ...expected(said)));
  $("asking").hidden = Boolean(model.tasks); // explanations are of one target
  $("said").scrollIntoView({ block: "nearest" });
}

function ranking(probabilities, title = "") {
  const ranked = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  const top = ranked.slice(0, 5);
  const rest = ranked.slice(5).reduce((sum, [, p]) => sum + p, 0);
  const caption =
    ranked.length > 5
      ? `${title}The 5 most probable of ${ranked.length} classes; the others have ${percent(rest)} together`
      : `${title}All classes`;
  const rows = top.map(([name, p]) => [named(name), percent(p), bar(p)]);
  return table(caption, ["Class", "Probability", ""], rows);
}

function expected(said) {
  const scores = said.expected;
  if (!scores?.n_rows) return ["The score on such rows was not measured."];
  const [names, alone] = [listed(said.modalities), "from these alone, by models that were fitted without the row"];
  const rows = [`${scores.n_rows} rows of fit that hold `, ...names];
  if (model.classes) {
    const loss = `log-loss ${number(scores.log_loss)}`;
    return ["Expected: of the ", ...rows, `, ${percent(scores.accuracy)} were predicted correctly ${alone} (${loss}).`];
  }
  const error = `${number(scores.rmse)} (root mean square; R² ${number(scores.r2)})`;
  return ["Expected: on the ", ...rows, `, predicted ${alone}, the error was ${error}.`];
}

// ---------------------------------------------------------------------- why

async function explain(within) {
  const { row, files } = asked;
  const answer = await ask("explain", bodyOf("row", row, files, { within }));
  if (answer.errors?.length) return showErrors(answer.errors);
  showShares(answer);
  $("inside").hidden = false;
  if (within) await showParts(answer);
}

/** The number of the longest bar of an explanation. */
function scaleOf({ shares, base, value, parts }) {
  const effects = Object.values(parts || {}).flatMap((part) => strongest(part).map((one) => one.effect));
  return Math.max(...[base, value, ...Object.values(shares), ...effects].map(Math.abs));
}

/** The parts with the largest effects, in their order. */
const strongest = (part) =>
  [...(part.effects || [])].sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect)).slice(0, MOST_PARTS);

function showShares(answer) {
  const { shares, base, value, target } = answer;
  const missing = asked.prediction.missing;
  const most = scaleOf(answer);
  const share = ([name, x]) =>
    missing.includes(name) ? [named(name), "missing", ""] : [named(name), signed(x), signedBar(x, most)];
  const rows = [
    ["nothing known", signed(base), signedBar(base, most, "sum")],
    ...Object.entries(shares).map(share),
    ["all together", signed(value), signedBar(value, most, "sum")],
  ];
  const odds = answer.scale === "log-odds";
  const unit = odds ? ["In log-odds of ", named(target)] : ["In units of the prediction"];
  const [right, left] = odds ? ["speaks for it", "against it"] : ["raises it", "lowers it"];
  const signs = `: positive (blue, to the right) ${right}, negative (orange, to the left) ${left}`;
  const caption = [...unit, signs, "; the last line is the sum."];
  $("shares").replaceChildren(
    el("h3", {}, "What each modality contributes"),
    table(caption, ["Modality", "Contribution", ""], rows),
  );
  const known = Object.entries(shares).filter(([name]) => !missing.includes(name));
  $("shares-said").textContent = known.map(([name, x]) => `${name} ${signed(x)}`).join(", ");
}

async function showParts(answer) {
  const nodes = [];
  for (const [name, part] of Object.entries(answer.parts || {})) {
    nodes.push(el("h3", {}, "Inside ", named(name)));
    if (!part.effects?.length) nodes.push(el("p", { class: "soft" }, part.reason || "No effects are reported."));
    else nodes.push(relation(name, part, answer), ...(await drawnOver(name, part)), partTable(part, scaleOf(answer)));
  }
  $("parts").replaceChildren(...nodes);
}

/** How the effects of parts are measured, and with which figure of the modality they compare. */
function relation(name, part, { on_top: whole, shares }) {
  const same = part.method === "occlusion" && Object.hasOwn(whole || {}, name);
  const measured = same ? ` The whole modality, measured in the same way: ${signed(whole[name])}.` : "";
  const share = signed(shares[name]);
  const apart = ` Effects do not add up to its contribution, ${share}, which is a mean over all combinations of modalities.`;
  return el("p", { class: "hint" }, `Effects: ${part.unit}.${measured}${apart}`);
}

function partTable(part, most) {
  const caption =
    part.effects.length > MOST_PARTS
      ? `The ${MOST_PARTS} strongest of ${part.effects.length} parts`
      : "All parts, the strongest first";
  const rows = strongest(part).map((one) => [
    named(partName(one, part.kind)),
    signed(one.effect),
    signedBar(one.effect, most),
  ]);
  return table(`${caption}, on the scale of the contributions`, ["Part", "Effect", ""], rows);
}

/** The name of a part: a word, a column, a cell of the grid, or another description of its place. */
function partName({ effect, ...where }, kind) {
  const { token, column, row, start, end, low_hz: low, high_hz: high } = where;
  if (kind === "text") return `“${token}”`;
  if (kind === "image") return `row ${row + 1}, column ${column + 1}`;
  if (kind === "columns") return Object.hasOwn(asked.row, column) ? `${column} = ${asked.row[column]}` : column;
  if (kind === "sound") return `${start.toFixed(2)}–${end.toFixed(2)} s, ${Math.round(low)}–${Math.round(high)} Hz`;
  const places = Object.entries(where).map(([key, value]) => `${key.replaceAll("_", " ")} ${value}`);
  return places.join(", ");
}

/** The effects over their cell, if that is a text or a picture. */
async function drawnOver(modality, { kind, effects }) {
  const columns = Object.keys(model.input).filter((name) => model.input[name].modalities.includes(modality));
  const cell = asked.row[columns[0]];
  if (kind === "text" && typeof cell === "string") return [markedText(cell, effects)];
  if (kind !== "image" || !asked.files.has(cell?.upload)) return [];
  try {
    const canvas = overlay(await createImageBitmap(asked.files.get(cell.upload)), effects);
    const most = Math.max(...effects.map((one) => Math.abs(one.effect)));
    const note = `Blue is positive, orange (hatched) negative; the strongest colour is an effect of ${number(most)}.`;
    return [canvas, el("p", { class: "hint" }, note)];
  } catch {
    return [el("p", { class: "hint" }, "This browser cannot show the picture; the table has the cells.")];
  }
}

/** A text with marked words: underlined if they speak for it, dotted if against it. */
function markedText(text, effects) {
  const signs = [...text]; // positions are counted in code points
  const most = Math.max(...effects.map((one) => Math.abs(one.effect))) || 1;
  const nodes = [];
  let place = 0;
  for (const { start, end, effect } of [...effects].sort((a, b) => a.start - b.start)) {
    const mark = el("span", { title: signed(effect) }, signs.slice(start, end).join(""));
    const shade = (strongest) => {
      const strength = Math.round((strongest * Math.abs(effect)) / most);
      return `color-mix(in srgb, var(--${effect < 0 ? "against" : "for"}) ${strength}%, transparent)`;
    };
    mark.style.background = shade(45);
    mark.style.borderBottom = `2px ${effect < 0 ? "dotted" : "solid"} ${shade(100)}`;
    nodes.push(signs.slice(place, start).join(""), mark);
    place = end;
  }
  return el("p", { class: "marked" }, ...nodes, signs.slice(place).join(""));
}

/** The picture in grey, with the grid over it. */
function overlay(picture, effects) {
  const scale = 360 / Math.max(picture.width, picture.height);
  const canvas = el("canvas", {
    role: "img",
    "aria-label": "the picture with the grid of effects; the table below has the strongest cells",
  });
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(scale * side)));
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white"; // behind what is transparent
  pen.fillRect(0, 0, width, height);
  pen.filter = "grayscale(1)";
  pen.drawImage(picture, 0, 0, width, height);
  pen.filter = "none";
  const style = getComputedStyle(document.documentElement);
  const [speaksFor, against] = ["--for-over", "--against-over"].map((name) => style.getPropertyValue(name).trim());
  const rows = 1 + Math.max(...effects.map((one) => one.row));
  const columns = 1 + Math.max(...effects.map((one) => one.column));
  const most = Math.max(...effects.map((one) => Math.abs(one.effect))) || 1;
  for (const { row, column, effect } of effects) {
    const [left, top, right, bottom] = [
      (column * width) / columns,
      (row * height) / rows,
      ((column + 1) * width) / columns,
      ((row + 1) * height) / rows,
    ].map(Math.round);
    pen.globalAlpha = (0.7 * Math.abs(effect)) / most;
    pen.fillStyle = pen.strokeStyle = effect < 0 ? against : speaksFor;
    pen.fillRect(left, top, right - left, bottom - top);
    if (effect < 0) hatch(pen, left, top, right, bottom);
  }
  return canvas;
}

function hatch(pen, left, top, right, bottom) {
  pen.save();
  pen.beginPath();
  pen.rect(left, top, right - left, bottom - top);
  pen.clip();
  pen.beginPath();
  for (let x = left - (bottom - top); x < right; x += 8) {
    pen.moveTo(x, bottom);
    pen.lineTo(x + bottom - top, top);
  }
  pen.stroke();
  pen.restore();
}

// ---------------------------------------------------------------------- the page

async function begin() {
  model = await ask("model");
  document.title = `Try ${model.name}`;
  $("title").replaceChildren("Try ", named(model.name));
  const one = model.classes ? `${model.classes.length} classes` : "predicts a number";
  const kind = model.tasks ? `predicts ${Object.keys(model.tasks).length} targets` : one;
  $("about").replaceChildren(
    `${kind}; reads `,
    ...listed(model.modalities.map((one) => one.name)),
    model.created ? `; made ${model.created.slice(0, 10)}` : "",
  );
  fields = Object.entries(model.input || {}).map(([name, spec], i) => makeField(name, spec, i));
  $("fields").replaceChildren(...fields.map((field) => field.node));
  if (!fields.length)
    throw new Problem("The model's file does not say which columns it reads, so there is no form to fill.");
  $("columns").hidden = false;
  $("start").hidden = !model.example;
  $("example-hint").textContent = {
    row: "A row that the model was saved with.",
    numbers: "The medians of the numbers in fit; the model was saved without a row.",
  }[model.example];
  showKnown();
  told();
}

function showKnown() {
  const scores = Object.entries(model.expected_scores || {});
  const key = model.classes ? "accuracy" : "r2";
  const facts = model.classes ? [el("dl", {}, el("dt", {}, "Classes"), el("dd", {}, ...listed(model.classes)))] : [];
  const rows = scores.map(([name, s]) => [named(name), model.classes ? percent(s[key]) : number(s[key]), bar(s[key])]);
  if (rows.length)
    facts.push(
      table(
        "Expected out of fold, if only these modalities are present",
        ["Modalities", model.classes ? "Accuracy" : "R²", ""],
        rows,
      ),
    );
  $("facts").replaceChildren(...facts);
  $("known").hidden = !facts.length;
}

/** Put an example into the fields; those that it lacks become empty. */
async function fillExample() {
  const { row } = await ask("example");
  forget();
  for (const field of fields) {
    field.clear();
    setError(field, "");
    if (Object.hasOwn(row || {}, field.name)) field.fill(row[field.name]);
    markOutside(field);
  }
  edits += 1;
  told();
}

/** Show which fields are empty, and whether the result is for earlier contents of the fields. */
function told() {
  const empty = fields.filter((field) => field.isEmpty()).map((field) => field.name);
  const some = empty.length ? ["Empty, so missing: ", ...listed(empty), "."] : ["No field is empty."];
  const said = el("span", {}, ...(empty.length === fields.length ? ["Every field is empty."] : some));
  // Changed only if the text differs, because a screen reader reads it out.
  if ($("empty").textContent !== said.textContent) $("empty").replaceChildren(said);
}

function changed(event) {
  const field = fields.find((one) => one.input === event.target);
  if (field) setError(field, "");
  if (field) markOutside(field);
  edits += 1;
  noteChange();
  told();
}

function noteChange() {
  const note = "The fields have changed since; this prediction is for their previous contents.";
  if (asked && !$("stale")) $("said").append(el("p", { class: "hint", id: "stale" }, note));
}

/** A pasted picture goes to the field with the focus, or to the first empty field for pictures. */
function paste(event) {
  // A copy from a document is both text and a picture of it; a field for text takes the text.
  if (event.target.matches?.("textarea, [type=text]") && event.clipboardData.getData("text/plain")) return;
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  const pictures = fields.filter((field) => field.spec.type === "image");
  const field =
    pictures.find((one) => one.node.contains(document.activeElement)) ||
    pictures.find((one) => one.isEmpty()) ||
    pictures[0];
  if (!file || !field) return;
  event.preventDefault();
  take(field, [file]);
}

$("row").addEventListener("submit", (event) => {
  event.preventDefault();
  once(predict, $("predict"));
});
$("row").addEventListener("input", changed);
$("row").addEventListener("change", changed);
$("clear").addEventListener("click", () => {
  for (const field of fields) {
    field.clear();
    setError(field, "");
    markOutside(field);
  }
  forget();
  tell();
  told();
  fields[0].input.focus();
});
$("example").addEventListener("click", () => once(fillExample, $("example")));
$("why").addEventListener("click", () => once(() => explain(false), $("why")));
$("inside").addEventListener("click", () => once(() => explain(true), $("inside")));
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  once(async () => {
    const given = $("token").value.trim();
    if (!/^[!-~]+$/.test(given)) throw new Problem("A token consists of visible ASCII characters, without spaces.");
    token = given;
    $("token").value = "";
    await (model ? ask("model") : begin());
    $("token-form").hidden = true;
    fields[0].input.focus();
  });
});
document.addEventListener("paste", paste);
// A file that is dropped outside a field must not replace the page.
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
once(begin);
