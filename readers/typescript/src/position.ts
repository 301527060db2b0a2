/** Places in the log: the checkpoint's position, the token of a commit, and which includes which.
 *
 * `tests/readers/vectors.json` in the projector's repository holds the cases that this module, its
 * Python twin and the projector itself agree on. */
import { InvalidTokenError, NotComparableError } from "./errors.js";

type Interval = readonly [first: bigint, last: bigint];

/** MySQL's set of transactions: intervals, in order and apart, by `uuid:tag`. */
type GtidSet = { readonly kind: "mysql"; readonly intervals: ReadonlyMap<string, Interval[]> };
/** MariaDB's position: of each replication domain its last sequence number. In a domain they grow
 * from commit to commit, over a failover too, but not where several servers write to one domain at
 * the same time: there each needs a `gtid_domain_id` of its own, as MariaDB's manual asks for. */
type MariadbGtids = { readonly kind: "mariadb"; readonly byDomain: ReadonlyMap<bigint, bigint> };
type Gtids = GtidSet | MariadbGtids;
type Place = {
  readonly kind: "file"; readonly server: string; readonly file: string; readonly offset: bigint;
};
/** A place in PostgreSQL's log: the cluster's identifier, the timeline, which ends where a standby is
 * promoted, and bytes from the beginning of the log. */
type WalPlace = {
  readonly kind: "wal"; readonly system: bigint; readonly timeline: bigint; readonly lsn: bigint;
};
/** GTIDs or, without them, a place in a log; neither: nothing was committed. */
export type Token = {
  readonly gtids: Gtids | undefined; readonly place: Place | WalPlace | undefined;
};

const UUID = /^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$/;
const TAG = /^[a-z_][a-z0-9_]{0,31}$/;
const NUMBER = /^[0-9]{1,20}$/;
const LSN = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;
const LAST = 2n ** 63n - 2n; // GNO_END - 1, sql/rpl_gtid.h

/** A checkpoint's position. The text form has five parts separated by `|`: flavour, server, file,
 * offset, GTIDs (empty: an empty set; `-`: the server has none). PostgreSQL's: `postgres`, system,
 * timeline, LSN, and ids that concern the projector alone. */
export class Position {
  private constructor(
    readonly text: string,
    private readonly place: Place | WalPlace,
    private readonly gtids: Gtids | undefined,
  ) {}

  /** Read the text form; parts that a later projector may append are passed over. Throws
   * InvalidTokenError. */
  static parse(text: string): Position {
    const parts = text.trim().split("|");
    if (parts.length < 5) throw new InvalidTokenError(`not a position: ${shown(text)}`);
    const [flavour, server, file, offset, gtids] = parts.map((part) => part.trim()) as [
      string, string, string, string, string,
    ];
    if (flavour === "postgres") {
      const system = number(server, text);
      const place = { kind: "wal", system, timeline: number(file, text), lsn: lsn(offset, text) };
      return new Position(text, place as WalPlace, undefined);
    }
    if (flavour !== "mysql" && flavour !== "mariadb") {
      throw new InvalidTokenError(`not a position of a known kind: ${shown(text)}`);
    }
    const place: Place = {
      kind: "file",
      server: server.replaceAll("%7C", "|").replaceAll("%25", "%"),
      file,
      offset: number(offset, text),
    };
    const read = flavour === "mysql" ? parseGtidSet : parseMariadbGtids;
    return new Position(text, place, gtids === "-" ? undefined : read(gtids));
  }

  /** Return whether what the token names lies at or before this position. Throws
   * InvalidTokenError, and NotComparableError where nobody can say. */
  includes(token: string | Token): boolean {
    const { gtids, place } = typeof token === "string" ? parseToken(token) : token;
    if (gtids !== undefined) {
      if (gtids.kind === "mysql" && this.gtids?.kind === "mysql") {
        return hasSet(this.gtids, gtids);
      }
      if (gtids.kind === "mariadb" && this.gtids?.kind === "mariadb") {
        return hasDomains(this.gtids, gtids);
      }
      throw new NotComparableError("the token has GTIDs of a kind that the checkpoint has not");
    }
    if (place === undefined) return true;
    if (place.kind === "wal" && this.place.kind === "wal") return hasWal(this.place, place);
    if (place.kind === "wal" || this.place.kind === "wal") {
      throw new NotComparableError("the token is of another kind of database");
    }
    if (place.server !== this.place.server) {
      throw new NotComparableError("the token is a place in the log of another server");
    }
    const [mine, theirs] = [fileNumber(this.place.file), fileNumber(place.file)];
    return mine > theirs || (mine === theirs && this.place.offset >= place.offset);
  }

  /** Return the text form. */
  toString(): string {
    return this.text;
  }

  /** Return where this is, as a token. */
  asToken(): Token {
    return { gtids: this.gtids, place: this.place };
  }
}

/** Read a token: GTIDs as MySQL or MariaDB write them, a position, or nothing but white space for a
 * session that has committed nothing. Throws InvalidTokenError. */
export function parseToken(text: string): Token {
  if (text.includes("|")) return Position.parse(text).asToken();
  if (/^[ \t\r\n,]*$/.test(text)) return { gtids: undefined, place: undefined };
  const gtids = text.includes(":") ? parseGtidSet(text) : parseMariadbGtids(text);
  return { gtids, place: undefined };
}

function parseGtidSet(text: string): GtidSet {
  const found = new Map<string, [bigint, bigint][]>();
  for (const part of parts(text.toLowerCase())) {
    const [sid = "", ...rest] = part.split(":");
    if (!UUID.test(sid) || rest.length === 0) {
      throw new InvalidTokenError(`not a set of GTIDs: ${shown(text)}`);
    }
    let source = `${sid.replaceAll("-", "")}:`;
    for (const item of rest) {
      if (TAG.test(item)) {
        source = `${sid.replaceAll("-", "")}:${item}`;
        continue;
      }
      const dash = item.indexOf("-");
      const first = number(dash < 0 ? item : item.slice(0, dash), text);
      const last = dash < 0 ? first : number(item.slice(dash + 1), text);
      if (first < 1n || first > LAST || last > LAST) {
        throw new InvalidTokenError(`not a set of GTIDs: ${shown(text)}`);
      }
      if (first > last) continue; // the server takes an empty one for nothing, too
      const intervals = found.get(source);
      if (intervals) intervals.push([first, last]);
      else found.set(source, [[first, last]]);
    }
  }
  return { kind: "mysql", intervals: new Map([...found].map(([k, v]) => [k, joined(v)])) };
}

function parseMariadbGtids(text: string): MariadbGtids {
  const byDomain = new Map<bigint, bigint>();
  for (const part of parts(text)) {
    const numbers = part.split("-").map((each) => number(each, text));
    const [domain, , sequence] = numbers;
    if (numbers.length !== 3 || byDomain.has(domain!)) {
      throw new InvalidTokenError(`not GTIDs of MariaDB: ${shown(text)}`);
    }
    byDomain.set(domain!, sequence!);
  }
  return { kind: "mariadb", byDomain };
}

function hasSet(reached: GtidSet, wanted: GtidSet): boolean {
  return [...wanted.intervals].every(([source, intervals]) => {
    const mine = reached.intervals.get(source) ?? [];
    return intervals.every(([first, last]) => mine.some(([a, b]) => a <= first && last <= b));
  });
}

function hasDomains(reached: MariadbGtids, wanted: MariadbGtids): boolean {
  return [...wanted.byDomain].every(
    ([domain, sequence]) => (reached.byDomain.get(domain) ?? -1n) >= sequence,
  );
}

/** Return whether `reached` is not before `wanted`; never of what lies on a timeline that is not
 * reached yet. Throws NotComparableError for another cluster's, and for one on a timeline that has
 * ended: whether the server that was promoted had got as far, no position tells. */
function hasWal(reached: WalPlace, wanted: WalPlace): boolean {
  if (reached.system !== wanted.system) {
    throw new NotComparableError("the token is a place in the log of another cluster");
  }
  if (reached.timeline > wanted.timeline) {
    throw new NotComparableError("the token is from before a standby was promoted");
  }
  return reached.timeline === wanted.timeline && reached.lsn >= wanted.lsn;
}

/** Return the intervals in order, those that touch or overlap as one. */
function joined(intervals: [bigint, bigint][]): Interval[] {
  intervals.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  const found: [bigint, bigint][] = [];
  for (const [first, last] of intervals) {
    const before = found.at(-1);
    if (before && first <= before[1] + 1n) before[1] = last > before[1] ? last : before[1];
    else found.push([first, last]);
  }
  return found;
}

function parts(text: string): string[] {
  return text.replace(/\s+/g, "").split(",").filter(Boolean);
}

function number(text: string, whole: string): bigint {
  if (NUMBER.test(text)) return BigInt(text);
  throw new InvalidTokenError(`not a number where one is due: ${shown(whole)}`);
}

function lsn(text: string, whole: string): bigint {
  const found = LSN.exec(text);
  if (found) return (BigInt(`0x${found[1]}`) << 32n) | BigInt(`0x${found[2]}`);
  throw new InvalidTokenError(`not a place where one is due: ${shown(whole)}`);
}

/** Return the number of a log file: it may outgrow six digits, so text does not order it. */
function fileNumber(file: string): bigint {
  const digits = file.slice(file.lastIndexOf(".") + 1);
  return NUMBER.test(digits) ? BigInt(digits) : 0n;
}

function shown(text: string): string {
  return JSON.stringify(text.length <= 80 ? text : `${text.slice(0, 77)}...`);
}
