// What the programs here share: they are run one by one, as their users would run them.

/** Until `check` resolves to something true. */
export async function eventually(check, what, withinMs = 20_000) {
  const deadline = Date.now() + withinMs;
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}
