/** The token of a commit: what its database calls it. */
import { ReaderError } from "./errors.js";

// One question for both: MariaDB passes over comments for MySQL 5.7 and later, MySQL over `/*M!`.
// - MySQL: everything committed by now, our commit included; `ownGtid` is more exact.
// - MariaDB: the last transaction that this very session has committed.
const TOKEN_SQL =
  "SELECT /*!80000 @@GLOBAL.gtid_mode, @@GLOBAL.gtid_executed */" +
  " /*M!100200 'MariaDB', @@last_gtid */";
const SERVER_SQL = "SELECT @@server_uuid, VERSION()";

/** A connection of mysql2/promise or of the MariaDB connector. */
export interface Connection {
  query(sql: string): Promise<unknown>;
}

/** Return the token for what was committed last on this connection (not on a pool), to be asked for
 * right after the commit. Empty where nothing was committed: nothing is waited for then.
 *
 * MySQL without GTIDs: file and offset, which needs the privilege REPLICATION CLIENT. */
export async function commitToken(connection: Connection): Promise<string> {
  const [mode, gtids] = await row(connection, TOKEN_SQL);
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

async function row(connection: Connection, sql: string): Promise<unknown[]> {
  const reply = await connection.query(sql);
  let rows = Array.isArray(reply) ? reply : [];
  if (Array.isArray(rows[0]) && Array.isArray(rows[1])) rows = rows[0]; // mysql2: rows and columns
  const first: unknown = rows[0];
  const values = typeof first === "object" && first !== null ? Object.values(first) : [];
  return values.map((value: unknown) => (Buffer.isBuffer(value) ? value.toString() : value));
}
