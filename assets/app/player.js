// One audio player: it first plays chunks as they arrive, later the whole file, with one waveform to click into.
// Only one player sounds at a time. Colours come from the CSS variable --side of the nearest ancestor.

const Sound = { playing: null, context: null };

function fileUrl(path) {
  const root = (window.gradio_config && window.gradio_config.root) || "";
  return root.replace(/\/$/, "") + "/" + path;
}

function samplesOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const integers = new Int16Array(bytes.buffer);
  return Float32Array.from(integers, (value) => value / 32768);
}

function peaksOf(samples, perSecond, rate) {
  const step = Math.max(1, Math.round(rate / perSecond));
  const peaks = [];
  for (let start = 0; start < samples.length; start += step) {
    let peak = 0;
    const end = Math.min(start + step, samples.length);
    for (let i = start; i < end; i++) peak = Math.max(peak, Math.abs(samples[i]));
    peaks.push(peak);
  }
  return peaks;
}

function clockText(seconds) {
  const whole = Math.max(0, seconds);
  return Math.floor(whole / 60) + ":" + String(Math.floor(whole % 60)).padStart(2, "0");
}

const PLAY = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M8 5.5v13l11-6.5z"/></svg>';
const PAUSE = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 5h4v14H7zM13 5h4v14h-4z"/></svg>';
const PEAKS_PER_SECOND = 25;

class Player {
  constructor(name, onEnded) {
    this.name = name;
    this.onEnded = onEnded || (() => {});
    this.peaks = [];
    this.seconds = 0;
    this.live = null; // chunks being played: {rate, sources, next, started, pushed}
    this.received = 0;
    this.ended = false;
    this.final = false;
    this.node = document.createElement("div");
    this.node.className = "player";
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.className = "player-button";
    this.canvas = document.createElement("canvas");
    this.canvas.className = "player-wave";
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "slider");
    this.canvas.setAttribute("aria-label", "Position in " + name);
    this.canvas.setAttribute("aria-valuemin", "0");
    this.time = document.createElement("span");
    this.time.className = "player-time";
    this.audio = document.createElement("audio");
    this.audio.preload = "none";
    this.node.append(this.button, this.canvas, this.time, this.audio);
    this.button.addEventListener("click", () => (this.isPlaying() ? this.pause() : this.play()));
    this.canvas.addEventListener("click", (event) => {
      const box = this.canvas.getBoundingClientRect();
      this.seek(((event.clientX - box.left) / box.width) * this.seconds, true);
    });
    this.canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.25, ArrowRight: 0.25 }[event.key];
      if (step) this.seek(this.position() + step, false);
      else if (event.key === " " || event.key === "Enter") this.button.click();
      else return;
      event.preventDefault();
    });
    this.audio.addEventListener("ended", () => this.finish());
    for (const name of ["play", "pause", "timeupdate", "seeked"]) this.audio.addEventListener(name, () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.draw();
  }

  push(chunks, rate) {
    for (const chunk of chunks.slice(this.received)) {
      const samples = samplesOf(chunk);
      this.peaks.push(...peaksOf(samples, PEAKS_PER_SECOND, rate));
      this.seconds += samples.length / rate;
      this.received += 1;
      this.waiting = this.waiting || [];
      this.waiting.push(samples);
      if (this.live) this.schedule(rate);
    }
    this.rate = rate;
    this.draw();
  }

  settle(path, peaks, seconds) {
    if (this.final) return;
    this.final = true;
    this.peaks = peaks;
    this.seconds = seconds;
    this.audio.src = fileUrl(path);
    this.audio.preload = "metadata";
    if (this.live && this.live.drained) this.finish();
    this.draw();
  }

  schedule(rate) {
    const live = this.live;
    while (this.waiting && this.waiting.length) {
      const samples = this.waiting.shift();
      const buffer = Sound.context.createBuffer(1, samples.length, rate);
      buffer.copyToChannel(samples, 0);
      const source = Sound.context.createBufferSource();
      source.buffer = buffer;
      source.connect(Sound.context.destination);
      const now = Sound.context.currentTime;
      if (live.next < now) {
        live.late += live.next ? now + 0.04 - live.next : 0;
        live.next = now + 0.04;
        if (live.started === null) live.started = live.next;
      }
      live.drained = false;
      source.start(live.next);
      live.next += samples.length / rate;
      live.sources.push(source);
      source.onended = () => {
        if (this.live !== live || live.next > Sound.context.currentTime + 0.02) return;
        live.drained = true;
        if (this.final) this.finish();
      };
      if (this.onFirstSound) {
        this.onFirstSound();
        this.onFirstSound = null;
      }
    }
  }

  isPlaying() {
    if (this.live) return !!Sound.context && Sound.context.state === "running";
    return !this.audio.paused && !this.audio.ended;
  }

  position() {
    if (this.live) {
      if (this.live.started === null) return 0;
      return Math.min(this.seconds, Math.max(0, Sound.context.currentTime - this.live.started - this.live.late));
    }
    return this.audio.currentTime || 0;
  }

  async play() {
    if (Sound.playing && Sound.playing !== this) Sound.playing.pause();
    Sound.playing = this;
    this.ended = false;
    if (this.live) {
      await Sound.context.resume();
    } else if (this.final) {
      await this.audio.play().catch(() => {});
    } else if (this.rate) {
      if (!Sound.context || Sound.context.sampleRate !== this.rate) {
        Sound.context = new AudioContext({ sampleRate: this.rate });
      }
      this.live = { sources: [], next: 0, started: null, late: 0, drained: false };
      await Sound.context.resume();
      this.schedule(this.rate);
    }
    this.animate();
  }

  pause() {
    if (this.live && this.final) {
      const where = this.position();
      this.endLive();
      this.audio.currentTime = where;
    } else if (this.live) {
      Sound.context.suspend();
    }
    this.audio.pause();
    this.draw();
  }

  stop() {
    this.endLive();
    this.audio.pause();
  }

  seek(seconds, thenPlay) {
    if (!this.final) return;
    this.endLive();
    this.audio.currentTime = Math.min(Math.max(0, seconds), Math.max(0, this.seconds - 0.01));
    if (thenPlay) this.play();
    this.draw();
  }

  endLive() {
    if (!this.live) return;
    for (const source of this.live.sources) {
      source.onended = null;
      try { source.stop(); } catch { /* it has not started */ }
    }
    this.live = null;
    if (Sound.context) Sound.context.resume();
  }

  finish() {
    this.endLive();
    this.ended = true;
    if (Sound.playing === this) Sound.playing = null;
    this.draw();
    this.onEnded();
  }

  animate() {
    this.draw();
    if (this.isPlaying() || this.live) requestAnimationFrame(() => this.animate());
  }

  draw() {
    const playing = this.isPlaying();
    const icon = playing ? PAUSE : PLAY;
    if (this.icon !== icon) {
      this.button.innerHTML = this.icon = icon;
      this.button.setAttribute("aria-label", (playing ? "Pause " : "Play ") + this.name);
    }
    this.button.disabled = !this.final && !this.live && !this.rate;
    const position = this.position();
    this.time.textContent = clockText(playing || position ? position : this.seconds) + (this.final ? "" : " …");
    this.canvas.setAttribute("aria-valuemax", this.seconds.toFixed(1));
    this.canvas.setAttribute("aria-valuenow", position.toFixed(1));
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (!width || !height) return;
    const scale = window.devicePixelRatio || 1;
    if (this.canvas.width !== width * scale || this.canvas.height !== height * scale) {
      this.canvas.width = width * scale;
      this.canvas.height = height * scale;
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const style = getComputedStyle(this.canvas);
    const colour = style.color;
    const bars = Math.max(1, Math.floor(width / 4));
    const shown = this.final ? this.peaks.length : Math.max(this.peaks.length, 3 * PEAKS_PER_SECOND);
    const loudest = Math.max(0.05, ...this.peaks);
    const played = this.seconds ? (position / this.seconds) * (this.peaks.length / Math.max(1, shown)) : 0;
    pen.fillStyle = colour;
    for (let bar = 0; bar < bars; bar++) {
      const from = Math.floor((bar / bars) * shown);
      const to = Math.max(from + 1, Math.floor(((bar + 1) / bars) * shown));
      const peak = Math.max(0, ...this.peaks.slice(from, to));
      const tall = from < this.peaks.length ? Math.max(2, (peak / loudest) * (height - 2)) : 2;
      pen.globalAlpha = from >= this.peaks.length ? 0.18 : bar / bars < played || !(playing || position) ? 0.95 : 0.4;
      pen.beginPath();
      pen.roundRect(bar * 4, (height - tall) / 2, 2.5, tall, 1.25);
      pen.fill();
    }
    pen.globalAlpha = 1;
  }
}
