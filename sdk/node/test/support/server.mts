import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { inject, onTestFinished } from 'vitest';
import { AgentIdP, type CreatedAgent, type NewAgent } from '../../src/index.js';

/** Every management scope: what the first agent may. */
export const management = ['agents:read', 'agents:write', 'credentials:write', 'tokens:introspect', 'tokens:revoke', 'audit:read', 'organizations:admin'];

/** A running agentidp with a database of its own. */
export class Server {
  issuer = '';
  admin = { clientId: '', clientSecret: '' };
  readonly #folder = mkdtempSync(join(tmpdir(), 'agentidp-data-'));
  readonly #env: Record<string, string>;
  #process: ChildProcess | undefined;

  private constructor(env: Record<string, string>) {
    this.#env = env;
  }

  /** Starts a server; `env` holds its settings. */
  static async start(env: Record<string, string> = {}): Promise<Server> {
    const server = new Server(env);
    await server.#serve('0');
    return server;
  }

  /** Starts a server that ends with the test. */
  static async forTest(env: Record<string, string> = {}): Promise<Server> {
    const server = await Server.start(env);
    onTestFinished(() => server.end());
    return server;
  }

  /** Starts it again at the same address, on the same data. */
  restart(): Promise<void> {
    return this.#serve(new URL(this.issuer).port);
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    const running = this.#process;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const exited = new Promise((resolve) => running.once('exit', resolve));
    running.kill('SIGKILL');
    await exited;
  }

  /** Ends it and removes its data. */
  async end(): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Runs another command on its data. */
  async command(...args: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)(inject('binary'), args, { cwd: this.#folder, env: this.#environment('0') });
    return stdout;
  }

  /** The management API, as the first agent. */
  idp(): AgentIdP {
    return new AgentIdP({ issuer: this.issuer, credential: this.admin });
  }

  /** Registers an agent. */
  register(agent: Partial<NewAgent> = {}): Promise<CreatedAgent> {
    return this.idp().agents.create({ ...newAgent(), ...agent });
  }

  #environment(port: string): Record<string, string> {
    return { PATH: process.env.PATH ?? '', HOME: this.#folder, PORT: port, DATA_DIR: join(this.#folder, 'data'), LOG_LEVEL: 'error', ...this.#env };
  }

  #serve(port: string): Promise<void> {
    const running = spawn(inject('binary'), ['serve'], { cwd: this.#folder, env: this.#environment(port), stdio: ['ignore', 'ignore', 'pipe'] });
    this.#process = running;
    return new Promise((resolve, reject) => {
      let text = '';
      running.once('exit', (code) => reject(new Error(`the server ended with ${String(code)}:\n${text}`)));
      running.stderr.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        const issuer = /^issuer +(\S+)$/m.exec(text)?.[1];
        const credential = /^\{"clientId":.*\}$/m.exec(text)?.[0];
        if (credential) this.admin = JSON.parse(credential) as typeof this.admin;
        if (!issuer || !/ listens on /.test(text) || this.admin.clientId === '') return;
        this.issuer = issuer;
        resolve();
      });
    });
  }
}

let registered = 0;

/** A registration that no other is like. */
export function newAgent(): NewAgent {
  registered++;
  return {
    email: `reader-${process.pid}-${registered}@sentryagent.ai`,
    agentType: 'invoice-reader',
    version: 'v1.0.0',
    capabilities: ['invoices:read', 'invoices:write'],
    owner: 'finance',
    deploymentEnv: 'development',
  };
}
