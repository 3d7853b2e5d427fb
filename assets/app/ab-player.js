// Two replies on one clock: both always run together, one of them is heard, and switching loses no moment.
// Colours come from the CSS variables --side-a and --side-b. Nothing in here knows who made a reply.

const AB = { context: null, playing: null };

const PLAY_ICON = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M8 5.5v13l11-6.5z"/></svg>';
const PAUSE_ICON = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 5h4v14H7zM13 5h4v14h-4z"/></svg>';
const SWITCH_SECONDS = 0.012;
const REPORT_SECONDS = 0.7;
const NAMES = { left: "A", right: "B" };

const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
};
const say = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};
const clockText = (seconds) => {
  const tenths = Math.max(0, Math.floor(seconds * 10 + 1e-6));
  return Math.floor(tenths / 600) + ":" + String(Math.floor((tenths % 600) / 10)).padStart(2, "0") + "." + (tenths % 10);
};

// As the server counts: 3 s or 60 % of a reply, all of a shorter one.
const needed = (seconds) => Math.min(seconds - 0.15, Math.max(3, 0.6 * seconds));
const covered = (stretches) => {
  let total = 0;
  let reached = 0;
  for (const [start, end] of [...stretches].sort((one, two) => one[0] - two[0])) {
    total += Math.max(0, end - Math.max(start, reached));
    reached = Math.max(reached, end);
  }
  return total;
};

// 16-bit mono PCM in a wav file, base64 -> {samples: Float32Array, rate}.
function readWav(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  let at = 12;
  let rate = 16000;
  while (at + 8 <= bytes.length) {
    const name = String.fromCharCode(...bytes.subarray(at, at + 4));
    const length = view.getUint32(at + 4, true);
    if (name === "fmt ") rate = view.getUint32(at + 12, true);
    if (name === "data") {
      const count = Math.floor(Math.min(length, bytes.length - at - 8) / 2);
      const samples = new Float32Array(count);
      for (let i = 0; i < count; i++) samples[i] = view.getInt16(at + 8 + 2 * i, true) / 32768;
      return { samples, rate };
    }
    at += 8 + length + (length % 2);
  }
  throw new Error("That is not a wav file.");
}

async function audioContext() {
  if (!AB.context) {
    // Without this, the ring switch of a phone silences the page.
    try { if (navigator.audioSession) navigator.audioSession.type = "playback"; } catch { /* not there */ }
    AB.context = new AudioContext();
  }
  if (AB.context.state !== "running") await AB.context.resume();
  return AB.context;
}

function bufferOf(sound) {
  const buffer = AB.context.createBuffer(1, Math.max(1, sound.samples.length), sound.rate);
  buffer.copyToChannel(sound.samples, 0);
  return buffer;
}

// A single recording: the sound check, and what was asked.
class Clip {
  constructor(base64, name, onPlayed) {
    this.sound = readWav(base64);
    this.name = name;
    this.onPlayed = onPlayed || (() => {});
    this.button = make("button", "clip");
    this.button.type = "button";
    this.button.addEventListener("click", () => (this.source ? this.pause() : this.play()));
    this.draw();
  }

  async play() {
    if (AB.playing && AB.playing !== this) AB.playing.pause();
    AB.playing = this;
    const context = await audioContext();
    if (AB.playing !== this) return;
    this.source = context.createBufferSource();
    this.source.buffer = bufferOf(this.sound);
    this.source.connect(context.destination);
    this.source.onended = () => {
      this.source = null;
      if (AB.playing === this) AB.playing = null;
      this.draw();
      this.onPlayed();
    };
    this.source.start();
    this.draw();
  }

  pause() {
    if (!this.source) return;
    this.source.onended = null;
    this.source.stop();
    this.source = null;
    if (AB.playing === this) AB.playing = null;
    this.draw();
  }

  draw() {
    this.button.innerHTML = this.source ? PAUSE_ICON : PLAY_ICON;
    this.button.setAttribute("aria-label", (this.source ? "Stop " : "Play ") + this.name);
  }
}

class ABPlayer {
  // ``told``: {reports(list), switched(side), started()}. ``turn`` counts from 0.
  constructor(turn, audio, told) {
    this.turn = turn;
    this.told = told;
    this.sounds = { left: readWav(audio.left), right: readWav(audio.right) };
    this.seconds = Math.max(...Object.values(this.sounds).map((each) => each.samples.length / each.rate));
    this.side = "left";
    this.offset = 0;
    this.run = null; // while it sounds: {sources, gains, started}
    this.heard = { left: [], right: [] };
    this.stretch = null; // what is being heard now: {side, start, end}
    this.pending = [];
    this.build();
    this.draw();
  }

  build() {
    this.node = make("div", "ab");
    this.node.setAttribute("role", "group");
    this.node.setAttribute("aria-label", "Player for replies A and B");
    this.lanes = {};
    const lanes = make("div", "ab-lanes");
    for (const side of ["left", "right"]) {
      const lane = make("div", "ab-lane side-" + NAMES[side].toLowerCase());
      const pick = make("button", "ab-pick", NAMES[side]);
      pick.type = "button";
      pick.title = "Hear " + NAMES[side] + " (key " + NAMES[side] + ")";
      pick.addEventListener("click", (event) => {
        if (event.detail) pick.blur(); // pressed with a finger or a mouse: space goes on meaning play and pause
        this.choose(side);
      });
      const canvas = make("canvas", "ab-wave");
      canvas.setAttribute("aria-hidden", "true");
      canvas.addEventListener("pointerdown", (event) => this.drag(event, side, canvas));
      lane.append(pick, canvas);
      lanes.append(lane);
      this.lanes[side] = { lane, pick, canvas, bars: null };
      new ResizeObserver(() => { this.lanes[side].bars = null; this.draw(); }).observe(canvas);
    }
    const bar = make("div", "ab-bar");
    this.button = make("button", "ab-play");
    this.button.type = "button";
    this.button.addEventListener("click", () => this.toggle());
    this.slider = make("input", "ab-slider");
    this.slider.type = "range";
    this.slider.min = 0;
    this.slider.max = this.seconds.toFixed(2);
    this.slider.step = 0.05;
    this.slider.setAttribute("aria-label", "Position, the same in A and B");
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    this.time = make("span", "ab-time");
    this.playing = make("span", "ab-now");
    bar.append(this.button, this.playing, this.slider, this.time);
    this.node.append(lanes, bar);
  }

  drag(event, side, canvas) {
    if (event.button) return;
    const to = (moved) => {
      const box = canvas.getBoundingClientRect();
      this.seek(((moved.clientX - box.left) / box.width) * this.seconds);
    };
    this.choose(side, false);
    to(event);
    canvas.setPointerCapture(event.pointerId);
    canvas.onpointermove = to;
    canvas.onpointerup = canvas.onpointercancel = () => { canvas.onpointermove = null; };
    if (!this.run) this.play();
  }

  position() {
    if (!this.run) return this.offset;
    return Math.min(this.seconds, Math.max(0, this.offset + AB.context.currentTime - this.run.started));
  }

  toggle() {
    return this.run || this.starting ? this.pause() : this.play();
  }

  // Hearing a side from the start when nothing sounds; from the same moment when something does.
  choose(side, thenPlay = true) {
    const changed = side !== this.side;
    if (changed) {
      this.mark();
      this.side = side;
      if (this.run) {
        const now = AB.context.currentTime;
        for (const each of ["left", "right"]) {
          const gain = this.run.gains[each].gain;
          gain.cancelScheduledValues(now);
          gain.setValueAtTime(gain.value, now);
          gain.linearRampToValueAtTime(each === side ? 1 : 0, now + SWITCH_SECONDS);
        }
        this.listen();
      }
      this.told.switched(side);
    }
    if (!this.run && thenPlay) this.play();
    this.draw();
  }

  async play() {
    if (this.run || this.starting) return;
    if (AB.playing && AB.playing !== this) AB.playing.pause();
    AB.playing = this;
    this.starting = true;
    const context = await audioContext();
    const wanted = this.starting && AB.playing === this;
    this.starting = false;
    if (!wanted) return;
    if (this.offset > this.seconds - 0.05) this.offset = 0;
    const run = { sources: {}, gains: {}, started: context.currentTime + 0.02 };
    for (const side of ["left", "right"]) {
      const source = context.createBufferSource();
      const gain = context.createGain();
      source.buffer = bufferOf(this.sounds[side]);
      gain.gain.value = side === this.side ? 1 : 0;
      source.connect(gain).connect(context.destination);
      source.start(run.started, this.offset);
      run.sources[side] = source;
      run.gains[side] = gain;
    }
    run.sources.left.onended = () => this.run === run && this.finish();
    this.run = run;
    this.reported = performance.now();
    this.listen();
    this.told.started();
    this.animate();
  }

  pause() {
    this.starting = false;
    if (!this.run) return;
    this.mark();
    this.offset = this.position();
    this.halt();
    this.flush();
  }

  halt() {
    const run = this.run;
    this.run = null;
    if (!run) return;
    for (const source of Object.values(run.sources)) {
      source.onended = null;
      source.stop();
    }
    if (AB.playing === this) AB.playing = null;
    this.draw();
  }

  finish() {
    this.mark(this.seconds);
    this.halt();
    this.offset = 0;
    this.flush();
    const other = this.side === "left" ? "right" : "left";
    // Until both were heard, the other side follows by itself; a glimpse of it is not hearing it.
    if (covered(this.heard[other]) < needed(this.seconds)) this.choose(other);
    this.draw();
  }

  seek(seconds) {
    const to = Math.min(Math.max(0, seconds), Math.max(0, this.seconds - 0.01));
    const sounding = !!this.run;
    if (sounding) {
      this.mark();
      this.halt();
    }
    this.offset = to;
    if (sounding) this.play();
    this.draw();
  }

  // Opens and closes the stretch of one side that is being heard.
  listen() {
    this.stretch = { side: this.side, start: this.position() };
  }

  mark(until) {
    if (!this.stretch) return;
    const end = until === undefined ? this.position() : until;
    const { side, start } = this.stretch;
    this.stretch = null;
    if (end > start + 0.01) {
      this.pending.push({ turn: this.turn, side, start: Number(start.toFixed(3)), end: Number(end.toFixed(3)) });
      const last = this.heard[side][this.heard[side].length - 1];
      if (last && Math.abs(last[1] - start) < 0.05) last[1] = end;
      else this.heard[side].push([start, end]);
    }
  }

  flush() {
    this.reported = performance.now();
    if (!this.pending.length) return;
    this.told.reports(this.pending);
    this.pending = [];
  }

  animate() {
    if (!this.run) return;
    if (performance.now() - this.reported > 1000 * REPORT_SECONDS) {
      this.mark();
      this.listen();
      this.flush();
    }
    this.draw();
    // A hidden page gets no frames, and goes on playing.
    if (document.hidden) setTimeout(() => this.animate(), 250);
    else requestAnimationFrame(() => this.animate());
  }

  stop() {
    this.pause();
    this.offset = 0;
    this.draw();
  }

  draw() {
    const sounding = !!this.run;
    const position = this.position();
    const state = (sounding ? "Pause " : "Play ") + NAMES[this.side];
    if (this.button.getAttribute("aria-label") !== state) {
      this.button.setAttribute("aria-label", state);
      this.button.innerHTML = sounding ? PAUSE_ICON : PLAY_ICON;
      this.button.title = sounding ? "Pause (space)" : "Play (space)";
    }
    this.node.dataset.playing = sounding;
    this.node.dataset.side = NAMES[this.side];
    this.button.classList.toggle("side-a", this.side === "left");
    this.button.classList.toggle("side-b", this.side === "right");
    say(this.playing, (sounding ? "Playing " : "") + NAMES[this.side]);
    say(this.time, clockText(position) + " / " + clockText(this.seconds));
    if (document.activeElement !== this.slider || sounding) this.slider.value = position;
    this.slider.setAttribute("aria-valuetext", position.toFixed(1) + " of " + this.seconds.toFixed(1) + " seconds");
    for (const side of ["left", "right"]) {
      this.lanes[side].lane.classList.toggle("active", side === this.side);
      this.lanes[side].pick.setAttribute("aria-pressed", String(side === this.side));
      this.lanes[side].pick.setAttribute("aria-label", "Hear " + NAMES[side]);
      this.drawLane(side, position);
    }
  }

  drawLane(side, position) {
    const lane = this.lanes[side];
    const { clientWidth: width, clientHeight: height } = lane.canvas;
    if (!width || !height) return;
    const scale = window.devicePixelRatio || 1;
    if (lane.canvas.width !== Math.round(width * scale)) lane.canvas.width = Math.round(width * scale);
    if (lane.canvas.height !== Math.round(height * scale)) lane.canvas.height = Math.round(height * scale);
    const count = Math.max(1, Math.floor(width / 4));
    if (!lane.bars || lane.bars.length !== count) lane.bars = this.peaks(side, count);
    const pen = lane.canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const active = side === this.side;
    const reached = (position / this.seconds) * count;
    pen.fillStyle = getComputedStyle(lane.canvas).color;
    for (let bar = 0; bar < count; bar++) {
      const tall = Math.max(2, lane.bars[bar] * (height - 14));
      pen.globalAlpha = active ? (bar < reached || !(this.run || position) ? 1 : 0.45) : 0.28;
      pen.beginPath();
      pen.roundRect(bar * 4, (height - 6 - tall) / 2, 2.6, tall, 1.3);
      pen.fill();
    }
    // Below the wave: what of it was heard.
    pen.globalAlpha = 0.75;
    for (const [start, end] of this.heardNow(side)) {
      pen.fillRect((start / this.seconds) * width, height - 3, Math.max(2, ((end - start) / this.seconds) * width), 3);
    }
    if (this.run || position) {
      pen.globalAlpha = 0.9;
      pen.fillStyle = getComputedStyle(this.node).color;
      pen.fillRect(Math.min(width - 1.5, (position / this.seconds) * width), 0, 1.5, height - 5);
    }
    pen.globalAlpha = 1;
  }

  heardNow(side) {
    const now = this.stretch && this.stretch.side === side && this.run ? [[this.stretch.start, this.position()]] : [];
    return [...this.heard[side], ...now].filter(([start, end]) => end > start);
  }

  // One scale for both sides: the level is a part of what is compared.
  peaks(side, count) {
    const loudest = Math.max(0.05, ...Object.values(this.sounds).map((each) => peakOf(each.samples, 0, each.samples.length)));
    const { samples, rate } = this.sounds[side];
    const step = (this.seconds * rate) / count;
    return Array.from({ length: count }, (_, bar) =>
      peakOf(samples, Math.floor(bar * step), Math.min(samples.length, Math.floor((bar + 1) * step))) / loudest
    );
  }
}

function peakOf(samples, from, to) {
  let peak = 0;
  for (let i = from; i < to; i++) {
    const value = samples[i] < 0 ? -samples[i] : samples[i];
    if (value > peak) peak = value;
  }
  return peak;
}
