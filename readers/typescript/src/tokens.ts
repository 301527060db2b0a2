/** The token of a commit: what its database calls it. */
import { ReaderError } from "./errors.js";

// One question for both: MariaDB passes over comments for MySQL 5.7 and later, MySQL over `/*M!`.
// - MySQL: everything committed by now, our commit included; `ownGtid` is more exact.
// - MariaDB: the last transaction that this very session has committed.
// PostgreSQL takes both for comments and answers with a row of nothing.
const TOKEN_SQL =
  "SELECT /*!80000 @@GLOBAL.gtid_mode, @@GLOBAL.gtid_executed */" +
  " /*M!100200 'MariaDB', @@last_gtid */";
const SERVER_SQL = "SELECT @@server_uuid, VERSION()";

// PostgreSQL: the end of what is written, which our commit lies before, also where it is not flushed
// (synchronous_commit=off); NULL on a standby. At the beginning of a page, or of a segment, the
// function has passed the head of 24 or 40 bytes (src/include/access/xlog_internal.h), which no
// record ends in: no checkpoint would get there before another commit. The name of the log's file
// begins with the timeline; pg_control_checkpoint() has the former one for a while.
const POSTGRES_TOKEN_SQL =
  "SELECT 'postgres|' || system_identifier || '|'" +
  " || ('x' || left(pg_walfile_name(lsn), 8))::bit(32)::bigint || '|'" +
  " || lsn - CASE WHEN mod(lsn - '0/0', segment) = 40 THEN 40" +
  " WHEN mod(lsn - '0/0', page) = 24 THEN 24 ELSE 0 END || '|' AS token" +
  " FROM pg_control_system(), (SELECT" +
  " CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END AS lsn," +
  " current_setting('wal_block_size')::int AS page," +
  " pg_size_bytes(current_setting('wal_segment_size')) AS segment) AS log";
const postgres = new WeakSet<object>(); // connections that are known to be PostgreSQL's

/** A connection of mysql2/promise, the MariaDB connector or node-postgres; of others, anything that
 * gives rows as an array, or as `rows` of an object. */
export interface Connection {
  query(sql: string): Promise<unknown>;
}

/** Return the token for what was committed last on this connection (not on a pool), to be asked for
 * right after the commit. Empty where nothing was committed: nothing is waited for then.
 *
 * MySQL without GTIDs: file and offset, which needs the privilege REPLICATION CLIENT. PostgreSQL:
 * any connection to the server does, a pool too; throws ReaderError on a standby. */
export async function commitToken(connection: Connection): Promise<string> {
  if (postgres.has(connection)) return postgresToken(connection);
  const first = await row(connection, TOKEN_SQL);
  if (first.length === 0) {
    postgres.add(connection);
    return postgresToken(connection);
  }
  const [mode, gtids] = first;
  if (mode === "ON" || mode === "MariaDB") return `${gtids ?? ""}`.replace(/\s+/g, "");
  const [server, version] = await row(connection, SERVER_SQL);
  const [major = 0, minor = 0] = `${version}`.split(".").map(Number);
  const isNew = major > 8 || (major === 8 && minor >= 2); // SHOW MASTER STATUS ended in 8.4
  const end = await row(connection, isNew ? "SHOW BINARY LOG STATUS" : "SHOW MASTER STATUS");
  if (end.length === 0) {
    throw new ReaderError("this server writes no binlog: there is nothing to wait for");
  }
  return `mysql|${server}|${end[0]}|${end[1]}|-`;
}

/** Return the GTID that MySQL told with the answer to a commit; undefined when it told none.
 *
 * `result`: mysql2's ResultSetHeader of the statement that committed (`COMMIT`, or a single one with
 * autocommit), in a session that has run `SET SESSION session_track_gtids = OWN_GTID`. Names our
 * commit alone and costs no round trip, so that the wait is the shortest. */
export function ownGtid(result: unknown): string | undefined {
  const header = (Array.isArray(result) ? result[0] : result) as
    | { stateChanges?: { gtids?: string[] } }
    | undefined;
  const gtids = header?.stateChanges?.gtids ?? [];
  return gtids.length ? gtids.join(",").replace(/\s+/g, "") : undefined;
}

async function postgresToken(connection: Connection): Promise<string> {
  const [token] = await row(connection, POSTGRES_TOKEN_SQL);
  if (typeof token === "string") return token;
  throw new ReaderError("this server is a standby: ask the primary, where the commit is");
}

async function row(connection: Connection, sql: string): Promise<unknown[]> {
  const reply = await connection.query(sql);
  const found: unknown = Array.isArray(reply) ? reply : (reply as { rows?: unknown } | null)?.rows;
  let rows: unknown[] = Array.isArray(found) ? found : [];
  if (Array.isArray(rows[0]) && Array.isArray(rows[1])) rows = rows[0]; // mysql2: rows and columns
  const first: unknown = rows[0];
  const values = typeof first === "object" && first !== null ? Object.values(first) : [];
  return values.map((value: unknown) => (Buffer.isBuffer(value) ? value.toString() : value));
}
