/** What a reader needs of a Redis client, and how ioredis and node-redis give it. */

/** Runs commands; bulk strings of replies as Buffers (or as strings, where documents are text). */
export interface Commands {
  command(args: readonly string[]): Promise<unknown>;
  /** Begin to open a connection of its own, for commands that block; those wait until it stands.
   * `close` ends it for good, however far it is. */
  open(): Commands & { close(): void };
}

/** `Redis` or `Cluster` of ioredis 5 or 6. */
export interface IoredisLike {
  callBuffer(command: string, ...args: string[]): Promise<unknown>;
  duplicate(): IoredisLike;
  disconnect(): void;
  on(event: "error", listener: (error: Error) => void): unknown;
}

/** A client, cluster or Sentinel of node-redis 5 or 6, connected. */
export interface NodeRedisLike {
  sendCommand(...args: never[]): Promise<unknown>;
  duplicate(): unknown;
}

type Duplicate = { connect(): Promise<unknown>; destroy(): void } & NodeRedisLike & {
    on(event: "error", listener: (error: Error) => void): unknown;
  };

/** Replies of type `$` (bulk string) and `=` (verbatim) as Buffers. */
const AS_BUFFERS = { typeMapping: { 36: Buffer } };

/** Return what runs commands over this client. */
export function commandsOf(client: Commands | IoredisLike | NodeRedisLike): Commands {
  if ("command" in client && "open" in client) return client;
  if ("callBuffer" in client) return ofIoredis(client);
  if ("sendCommand" in client) return ofNodeRedis(client);
  throw new TypeError("a client of ioredis, of node-redis, or an object with command and open");
}

function ofIoredis(client: IoredisLike): Commands {
  return {
    command: ([name = "", ...args]) => client.callBuffer(name, ...args),
    open: () => {
      const own = client.duplicate();
      own.on("error", () => undefined); // comes out of the commands, too
      return { ...ofIoredis(own), close: () => own.disconnect() };
    },
  };
}

function ofNodeRedis(client: NodeRedisLike): Commands {
  const send = client.sendCommand.bind(client) as (...args: unknown[]) => Promise<unknown>;
  let command = (args: readonly string[]) => send(args, AS_BUFFERS);
  if ("masters" in client) {
    command = (args) => send(keyOf(args), false, args, AS_BUFFERS); // a cluster: by the key
  } else if ("getSentinelNode" in client || "acquire" in client) {
    command = (args) => send(false, args, AS_BUFFERS);
  }
  return {
    command,
    open: () => {
      const own = client.duplicate() as Duplicate;
      own.on("error", () => undefined);
      const [ready, commands] = [own.connect(), ofNodeRedis(own)];
      ready.catch(() => undefined); // comes out of the commands, too
      return {
        ...commands,
        command: (args) => ready.then(() => commands.command(args)),
        close: () => {
          try {
            own.destroy();
          } catch {
            // it was closed before
          }
        },
      };
    },
  };
}

function keyOf(args: readonly string[]): string | undefined {
  if (args[0] === "XREAD") return args[args.indexOf("STREAMS") + 1];
  return args[args[0]?.startsWith("EVAL") ? 3 : 1]; // of a script, its first key
}
