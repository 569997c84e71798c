// The command line of the example: node main.js create order-17 'Weekly sales' agent-7 weekly '0 9 * * 1' alice

import { readFile } from "node:fs/promises";
import pg from "pg";
import { cancel, migrate, order, orderMany, outcome, Refused } from "./reports.js";

const USAGE = `usage: node main.js migrate
       node main.js create NUMBER TITLE AGENT NAME CRON USER
       node main.js import FILE.json
       node main.js cancel NUMBER USER`;
const FAILED = 1;
const BAD_INPUT = 2;
const SECONDS = Number(process.env.WAIT_SECONDS ?? 30);

const url = process.env.DATABASE_URL;
const [command, ...words] = process.argv.slice(2);

async function create(pool, [number, title, agent, name, cron, user]) {
  await told([await order(pool, { number, title, agent, name, cron, user })]);
}

async function importAll(pool, [file]) {
  await told(await orderMany(pool, JSON.parse(await readFile(file, "utf8"))));
}

async function cancelOne(pool, [number, user]) {
  const intent = await cancel(pool, number, user);
  if (intent === null) throw new Error(`there is no report ${number}`);
  await told([intent]);
}

async function told(intents) {
  for (const intent of intents) {
    const { status, event_type, error_code, error_message } = await outcome(url, intent.id, SECONDS);
    const why = error_code ? `: ${error_code} ${error_message}` : "";
    console.log(`${intent.schedule_id} ${status} (${event_type})${why}`);
    if (status !== "succeeded") process.exitCode = FAILED;
  }
}

const COMMANDS = { migrate: [migrate, 0], create: [create, 6], import: [importAll, 1], cancel: [cancelOne, 2] };
const [run, wanted] = COMMANDS[command] ?? [];
if (!url || !run || words.length !== wanted) {
  console.error(url ? USAGE : "DATABASE_URL is not set");
  process.exit(BAD_INPUT);
}
const pool = new pg.Pool({ connectionString: url });
pool.on("error", (lost) => console.error(lost.message)); // one that was idle; the pool opens another
try {
  await run(pool, words);
} catch (error) {
  console.error(error.message);
  process.exitCode = error instanceof Refused ? BAD_INPUT : FAILED;
} finally {
  await pool.end();
}
