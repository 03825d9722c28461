"use strict";
// What the service says of itself, and what its encoders make of a picture or a film: the same routes as for any client.
const at = (name) => document.getElementById(name);
const SLOTS = [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167], [128, 128, 128]];
const MOST_SIDE = 512, MOST_WAIT = 500, TOGETHER = 8, EVERY = 2000;
const models = new Map();
let before = null, shown = 0, dropped = null;

async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...(options.headers || {}), ...(token ? { Authorization: "Bearer " + token } : {}) };
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  if (response.status === 401) at("access").hidden = false;
  let text = response.statusText;
  try { text = (await response.json()).error || text; } catch (none) { /* not every proxy answers in JSON */ }
  throw new Error(text);
}

// `of`: who says so; only they take it back
function trouble(error, of = "show") {
  if (!error && at("trouble").dataset.of !== of) return;
  at("trouble").dataset.of = of;
  at("trouble").hidden = !error;
  at("trouble").textContent = error ? error.message : "";
}

function element(kind, text, className) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function open() {
  const told = await (await ask("v2")).json();
  at("access").hidden = true;
  at("lead").textContent = `Frames in, latents out. ${told.name} ${told.version} serves ${told.models.length} encoder${told.models.length === 1 ? "" : "s"}.`;
  for (const name of told.models) {
    const metadata = await (await ask("v2/models/" + encodeURIComponent(name))).json();
    const found = metadata.properties;
    models.set(name, { ...metadata, readings: JSON.parse(found.readings), properties: found });
    at("model").append(new Option(name, name));
    const row = element("tr", "");
    const main = JSON.parse(found.readings)[found.default_reading];
    row.append(element("td", name), element("td", `${found.encoder}, ${Number(found.parameters).toLocaleString("en")} parameters`));
    row.append(element("td", `${found.default_reading} (${main.shape.join(" x ")})`), element("td", found.memory === "true" ? "yes" : "no"));
    for (let index = 0; index < 4; index++) row.append(element("td", "", "number"));
    row.append(element("td", found.weights_sha256.slice(0, 12)));
    row.dataset.model = name;
    at("models").append(row);
  }
  chooseModel();
  await watch();
}

function chooseModel() {
  const model = models.get(at("model").value);
  at("reading").replaceChildren(...Object.entries(model.readings).map(([name, one]) => new Option(`${name} (${one.shape.join(" x ")})`, one.output)));
  if (dropped) show(dropped);
}

async function watch() {
  try {
    const stats = (await (await ask("v2/models/stats")).json()).model_stats;
    const metrics = await (await ask("metrics")).text();
    const now = { time: performance.now(), stats: new Map(stats.map((one) => [one.name, one])) };
    for (const row of at("models").children) {
      const name = row.dataset.model, one = now.stats.get(name), last = before && before.stats.get(name);
      const gauge = (kind) => metrics.split("\n").find((line) => line.startsWith(`${kind}{model=${JSON.stringify(name)},`));
      const seconds = before ? (now.time - before.time) / 1000 : 1;
      const rate = (value) => (last ? (value(one) - value(last)) / seconds : 0).toFixed(1);
      row.children[4].textContent = rate((s) => s.inference_stats.success.count);
      row.children[5].textContent = rate((s) => s.inference_count);
      row.children[6].textContent = (gauge("nv_inference_pending_request_count") || "0").split(" ").pop().replace(".0", "");
      row.children[7].textContent = (gauge("minerl_perception_sequences") || "0").split(" ").pop().replace(".0", "");
    }
    before = now;
    trouble(null, "watch");
  } catch (error) { trouble(error, "watch"); }
  setTimeout(watch, EVERY);
}

// frames: arrays of bytes (H * W * 3); what comes back: typed arrays by output name, with their shapes
async function infer(model, frames, height, width, outputs, state) {
  const inputs = [{ name: "frames", datatype: "UINT8", shape: [frames.length, height, width, 3], bytes: frames }];
  if (state) inputs.push({ name: "state", datatype: "UINT8", shape: [frames.length, state.length / frames.length], bytes: [state] });
  const size = (parts) => parts.reduce((sum, part) => sum + part.length, 0);
  const head = new TextEncoder().encode(JSON.stringify({
    inputs: inputs.map(({ bytes, ...told }) => ({ ...told, parameters: { binary_data_size: size(bytes) } })),
    outputs: outputs.map((name) => ({ name, parameters: { binary_data: true } })),
  }));
  const body = new Blob([head, ...inputs.flatMap((one) => one.bytes)]);
  const headers = { "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": String(head.length) };
  const response = await ask(`v2/models/${encodeURIComponent(model)}/infer`, { method: "POST", body, headers });
  const length = Number(response.headers.get("Inference-Header-Content-Length"));
  const answer = await response.arrayBuffer(), found = {};
  let place = length;
  for (const one of JSON.parse(new TextDecoder().decode(answer.slice(0, length))).outputs) {
    const end = place + one.parameters.binary_data_size, part = answer.slice(place, end);
    found[one.name] = { shape: one.shape, values: one.datatype === "FP32" ? new Float32Array(part) : new Uint8Array(part) };
    place = end;
  }
  return found;
}

function pixelsOf(source, width, height) {
  const scale = Math.min(1, MOST_SIDE / Math.max(width, height));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  const rgba = context.getImageData(0, 0, canvas.width, canvas.height).data, rgb = new Uint8Array(canvas.width * canvas.height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from]; rgb[to++] = rgba[from + 1]; rgb[to++] = rgba[from + 2];
  }
  return { rgb, width: canvas.width, height: canvas.height };
}

const unreadable = () => new Error("this browser cannot read the file: use a picture, or an mp4 with H.264 or VP9 (ffmpeg -i FILM -pix_fmt yuv420p film.mp4)");

const once = (target, name) => new Promise((done, failed) => {
  target.addEventListener(name, done, { once: true });
  target.addEventListener("error", () => failed(unreadable()), { once: true });
});

// a film has been sought when its new frame is decoded, which on a busy machine is before it can be drawn: wait until it is shown. Where the
// frame is the one shown before nothing new comes, nor where a browser does not tell.
const shownAfter = (film, last) => new Promise((done) => {
  const given = setTimeout(() => done(last), MOST_WAIT);
  const tell = (now, { mediaTime }) => {
    if (mediaTime <= last) { film.requestVideoFrameCallback(tell); return; }
    clearTimeout(given);
    done(mediaTime);
  };
  if (film.requestVideoFrameCallback) film.requestVideoFrameCallback(tell); else done(last);
});

async function* framesOf(file, rate, count) {
  if (file.type.startsWith("image/")) {
    const picture = await createImageBitmap(file).catch(() => { throw unreadable(); });
    yield pixelsOf(picture, picture.width, picture.height);
    return;
  }
  const film = document.createElement("video"), address = URL.createObjectURL(file);
  film.muted = true;
  const ready = once(film, "loadeddata");
  film.src = address;
  try {
    await ready;
    if (!film.videoWidth) throw unreadable();
    let last = -1;
    for (let index = 0; index < count && index / rate < film.duration; index++) {
      const sought = once(film, "seeked"), drawn = shownAfter(film, last);
      film.currentTime = Math.min((index + 0.5) / rate, film.duration);
      await sought;
      last = await drawn;
      yield pixelsOf(film, film.videoWidth, film.videoHeight);
    }
  } finally { URL.revokeObjectURL(address); }
}

function canvasOf(height, width, colour) {
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  canvas.width = width; canvas.height = height;
  const picture = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const [red, green, blue] = colour(pixel);
    picture.data.set([red, green, blue, 255], 4 * pixel);
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

// one row of an output: its own values, and the shape without the batch
const rowOf = (output, row) => {
  const size = output.values.length / output.shape[0];
  return { values: output.values.subarray(row * size, (row + 1) * size), shape: output.shape.slice(1) };
};

function figure(frame, found, row, index, rate) {
  const made = document.createElement("figure"), rgb = (values) => (pixel) => values.subarray(3 * pixel, 3 * pixel + 3);
  made.append(canvasOf(frame.height, frame.width, rgb(frame.rgb)));
  if (found.reconstruction) {
    const { values, shape } = rowOf(found.reconstruction, row);
    made.append(canvasOf(shape[0], shape[1], rgb(values)));
  }
  if (found.mask) {
    const { values, shape } = rowOf(found.mask, row), [height, width] = shape.slice(-2), area = height * width;
    const slots = shape.length === 3 ? shape[0] : 0;
    made.append(canvasOf(height, width, (pixel) => slots
      ? [0, 1, 2].map((part) => Array.from({ length: slots }, (_, k) => values[k * area + pixel] * SLOTS[k % SLOTS.length][part]).reduce((a, b) => a + b))
      : [255, 150, 30].map((part) => part * values[pixel])));
  }
  made.append(element("figcaption", `${(index / rate).toFixed(2)} s`));
  return made;
}

function drawLatents(columns) {
  const rows = columns[0].length, canvas = at("latents"), context = canvas.getContext("2d");
  canvas.width = columns.length; canvas.height = rows;
  columns.forEach((column, x) => column.forEach((value, y) => {
    const strength = Math.min(1, Math.abs(value) / 3), paler = Math.round(255 * (1 - strength));
    context.fillStyle = value < 0 ? `rgb(${paler}, ${paler}, 255)` : `rgb(255, ${paler}, ${paler})`;
    context.fillRect(x, y, 1, 1);
  }));
  const wide = Math.max(4, Math.min(100, Math.floor(1000 / columns.length))), high = Math.max(2, Math.min(14, Math.floor(420 / rows)));
  canvas.style.width = `${columns.length * wide}px`;
  canvas.style.height = `${rows * high}px`;
  canvas.onmousemove = (event) => {
    const x = Math.floor(event.offsetX / wide), y = Math.floor(event.offsetY / high);
    if (columns[x] && y < rows) at("value").textContent = `frame ${x}, number ${y}: ${columns[x][y].toFixed(3)}`;
  };
}

async function show(file) {
  const mine = ++shown, name = at("model").value, model = models.get(name), rate = Number(model.properties.frames_per_second);
  dropped = file;
  const reading = at("reading").value, extra = ["reconstruction", "mask"].filter((one) => model.outputs.some((output) => output.name === one));
  const memory = model.properties.memory === "true", told = model.inputs.some((input) => input.name === "action");
  const columns = [], waiting = [];
  let state = null, index = 0;
  at("strip").replaceChildren();
  at("what").textContent = `${file.name}, through ${name}`;
  const send = async () => {
    const frames = waiting.splice(0);
    const outputs = [...new Set([reading, ...extra, ...(memory ? ["state"] : [])])];
    const found = await infer(name, frames.map((one) => one.rgb), frames[0].height, frames[0].width, outputs, state);
    if (mine !== shown) return;
    if (memory) state = found.state.values;
    frames.forEach((frame, row) => {
      columns.push(rowOf(found[reading], row).values);
      at("strip").append(figure(frame, found, row, index++, rate));
    });
    at("results").hidden = false;
    at("progress").textContent = `${index} frame${index === 1 ? "" : "s"}`;
    drawLatents(columns);
  };
  try {
    if (told) throw new Error(`${name} is told actions, which a film does not have; choose another encoder`);
    for await (const frame of framesOf(file, rate, Number(at("count").value))) {
      if (mine !== shown) return;
      waiting.push(frame);
      if (memory || waiting.length === TOGETHER) await send();
    }
    if (waiting.length) await send();
    trouble(null);
    document.body.dataset.done = name;
  } catch (error) { if (mine === shown) trouble(error); }
}

at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").value);
  open().then(() => trouble(null), (error) => trouble(error));
});
at("model").addEventListener("change", chooseModel);
at("reading").addEventListener("change", () => dropped && show(dropped));
at("count").addEventListener("change", () => dropped && show(dropped));
at("file").addEventListener("change", (event) => event.target.files[0] && show(event.target.files[0]));
for (const name of ["dragenter", "dragover"]) addEventListener(name, (event) => { event.preventDefault(); at("drop").classList.add("over"); });
for (const name of ["dragleave", "drop"]) addEventListener(name, () => at("drop").classList.remove("over"));
addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) show(event.dataTransfer.files[0]); });
open().catch((error) => trouble(error));
