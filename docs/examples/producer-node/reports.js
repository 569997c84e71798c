// Reports that run on a schedule: the application's row and the outbox's intent, in one transaction.

import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

// A serialization failure and a deadlock: the same transaction may go through next time.
const PASSING = new Set(["40001", "40P01"]);
const ATTEMPTS = 5;

const TABLE = `
    CREATE TABLE IF NOT EXISTS reports (
        number      text PRIMARY KEY,  -- of the order: asked twice, it is made once
        title       text NOT NULL CHECK (title <> ''),
        schedule_id text NOT NULL,
        intent_id   uuid NOT NULL      -- what outbox.awaited_result takes
    )`;
const KEPT = `
    INSERT INTO reports (number, title, schedule_id, intent_id)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[])
        ON CONFLICT (number) DO NOTHING`;

/** What the outbox does not take: OB001 is a bad request, OB002 a used key. The place is the item's, from 0. */
export class Refused extends Error {
  constructor({ code, column: field, detail: place, message }) {
    const reason = message.replace(`${field}: `, "");
    super(`refused (${code}), item ${place}, ${field}: ${reason}`);
    Object.assign(this, { code, field, place: Number(place), reason });
  }
}

export async function migrate(pool) {
  await pool.query(TABLE);
}

/** Order one report; the intent is committed with its row, or gone with it. */
export function order(pool, report) {
  return inTransaction(pool, async (client) => {
    const { rows } = await client.query("SELECT * FROM outbox.enqueue($1)", [JSON.stringify(create(report))]);
    await keep(client, [report], rows);
    return rows[0];
  });
}

/** Order many: all of them or, if one is bad, none. */
export function orderMany(pool, reports) {
  return inTransaction(pool, async (client) => {
    const requests = JSON.stringify(reports.map(create));
    const { rows } = await client.query("SELECT * FROM outbox.enqueue_many($1) ORDER BY ordinal", [requests]);
    await keep(client, reports, rows);
    return rows;
  });
}

/** Cancel a report: its row goes at once, its schedule when a worker comes to it. */
export function cancel(pool, number, user) {
  return inTransaction(pool, async (client) => {
    const gone = await client.query("DELETE FROM reports WHERE number = $1 RETURNING schedule_id", [number]);
    if (gone.rowCount === 0) return null;
    const [agent_id, name] = gone.rows[0].schedule_id.split("--");
    const request = { kind: "delete", agent_id, name, principal: { user_id: user } };
    const { rows } = await client.query("SELECT * FROM outbox.enqueue($1)", [JSON.stringify(request)]);
    return rows[0];
  });
}

/** What became of an intent; after so many seconds, where it stands. Call it after the commit. */
export async function outcome(url, intentId, seconds) {
  const client = new pg.Client(url);
  let tell = () => {};
  client.on("notification", () => tell());
  client.on("error", () => tell()); // the next query fails, and says why
  await client.connect();
  try {
    await client.query("LISTEN outbox_settled");
    const end = performance.now() + 1000 * seconds;
    for (;;) {
      const told = new Promise((resolve) => (tell = resolve));
      const { rows } = await client.query("SELECT * FROM outbox.awaited_result($1)", [intentId]);
      if (rows.length === 0) throw new Error(`there is no intent ${intentId}, or it is not committed`);
      if (rows[0].status !== "pending" || performance.now() >= end) return rows[0];
      // Notifications come for others' intents, too, and behind a pooler not at all.
      await sleep(10);
      await Promise.race([told, sleep(1000, undefined, { ref: false })]);
    }
  } finally {
    await client.end();
  }
}

function create({ number, title, agent, name, cron, user }) {
  return {
    agent_id: agent,
    name,
    workflow_name: "Report",
    task_queue: "agents",
    workflow_params: { title },
    cron_expression: cron,
    principal: { user_id: user },
    idempotency_key: number,
  };
}

async function keep(client, reports, intents) {
  const column = (rows, name) => rows.map((row) => row[name]);
  await client.query(KEPT, [
    column(reports, "number"),
    column(reports, "title"),
    column(intents, "schedule_id"),
    column(intents, "id"),
  ]);
}

async function inTransaction(pool, work) {
  for (let attempt = 1; ; attempt += 1) {
    const client = await pool.connect();
    try {
      await client.query("BEGIN");
      const result = await work(client);
      await client.query("COMMIT");
      client.release();
      return result;
    } catch (error) {
      // A connection on which not even this works is closed, not given back.
      await client.query("ROLLBACK").then(() => client.release(), (lost) => client.release(lost));
      if (error.code === "OB001" || error.code === "OB002") throw new Refused(error);
      if (!PASSING.has(error.code) || attempt === ATTEMPTS) throw error;
    }
  }
}
