// The page of the shop. The service answers at api. where this page is at www.,
// on the same port.
const service = `${location.protocol}//${location.host.replace(/^www\./, "api.")}`;

interface Cart { items: number }
interface Order { id: number; items: number; at: string }
interface Orders { total: number; newest: Order[] }
interface Version { version: string }

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

const cartText = element("cart");
const orderButton = element<HTMLButtonElement>("order");
const orderList = element("orders");
const trouble = element("trouble");
const answers = element("answers");
const versionText = element("version");

// Each browser has a cart of its own.
function cartName(): string {
  let name = localStorage.getItem("cart");
  if (!name) {
    name = Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
    localStorage.setItem("cart", name);
  }
  return name;
}
const cart = `cart=${cartName()}`;

async function ask<T>(path: string, method = "GET"): Promise<T> {
  const answer = await fetch(service + path, { method, cache: "no-store" });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return answer.json() as Promise<T>;
}

function showCart({ items }: Cart): void {
  cartText.textContent = items === 1 ? "1 thing in the cart" : `${items} things in the cart`;
  orderButton.disabled = items === 0;
}

function showOrders({ total, newest }: Orders): void {
  orderList.replaceChildren(...newest.map(({ id, items, at }) => {
    const row = document.createElement("li");
    row.value = id;
    row.textContent = `${items} ${items === 1 ? "thing" : "things"}, ${new Date(at).toLocaleTimeString()}`;
    return row;
  }));
  orderList.dataset.total = String(total);
}

// act does what a button asks and says what went wrong.
async function act(work: () => Promise<void>): Promise<void> {
  try {
    await work();
    trouble.hidden = true;
  } catch (error) {
    trouble.textContent = error instanceof Error ? error.message : String(error);
    trouble.hidden = false;
  }
}

function refresh(): Promise<void> {
  return act(async () => {
    showCart(await ask<Cart>(`/cart?${cart}`));
    showOrders(await ask<Orders>("/orders"));
  });
}

for (const good of document.querySelectorAll<HTMLButtonElement>(".good")) {
  good.addEventListener("click", () => act(async () => showCart(await ask<Cart>(`/cart?${cart}`, "POST"))));
}
orderButton.addEventListener("click", () => act(async () => {
  await ask<Order>(`/orders?${cart}`, "POST");
  await refresh();
}));

// A dot for each of the last answers, so that a rollout is seen to shift.
const shown = 48;
async function watchVersion(): Promise<void> {
  const dot = document.createElement("i");
  try {
    const { version } = await ask<Version>("/version");
    dot.className = `v${(Number(version.replace(/\D/g, "")) % 4)}`;
    dot.title = versionText.textContent = version;
  } catch {
    dot.className = "failed";
    dot.title = versionText.textContent = "no answer";
  }
  answers.append(dot);
  while (answers.childElementCount > shown) answers.firstElementChild?.remove();
  setTimeout(watchVersion, 500);
}

void refresh();
void watchVersion();
