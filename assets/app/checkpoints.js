// The Checkpoints page: looks again and again while the page is seen, quickly while something loads.

let looking = null;
let busy = false;

async function look() {
  clearTimeout(looking);
  if (busy || !element.isConnected) return;
  busy = true;
  const answer = await call("watch");
  busy = false;
  if (answer.error) {
    tell(answer.error);
  } else {
    if (notice.textContent.startsWith("The connection was lost")) tell();
    showMemory(answer.memory);
    showList(answer);
  }
  if (!document.hidden) looking = setTimeout(look, !answer.error && answer.loading.length ? 500 : 3000);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });

async function begin() {
  const hello = await call("hello");
  if (hello.error) {
    tell(hello.error);
    addBox.replaceChildren(button("Try again", "points-plain", begin));
    return;
  }
  tell();
  drawAdd(hello);
  await look();
  root.dataset.ready = "true";
}

begin();
