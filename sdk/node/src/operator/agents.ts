import type { Call } from './call.js';
import type { Lines, Source } from './lines.js';
import type { Pages } from './pages.js';
import type { Transport } from './transport.js';
import type {
  Agent, AgentPatch, CallOptions, ChangeOptions, CreateOptions, CreatedAgent, ImportLine, ImportResult, NewAgent, QueryOf, TenantOptions,
} from './types.js';

/** What agents can be found by. */
export type AgentFilter = QueryOf<'listAgents'>;

/** The registry and the lifecycle of agents. */
export class Agents {
  /** @internal */
  constructor(private readonly transport: Transport) {}

  /**
   * Registers an agent, active at once, with its first credential, whose secret is shown this once.
   *
   * Management scopes among its capabilities need a token that carries them: name them in `options.scope`.
   *
   * @throws {@link AgentAlreadyExistsError} where the email is taken, {@link ValidationError} with every invalid field.
   */
  create(agent: NewAgent, options?: CreateOptions): Call<CreatedAgent> {
    return this.transport.call('createAgent', { body: agent, options });
  }

  /** Lists agents of every status, newest first. */
  list(filter: AgentFilter = {}, options?: CallOptions): Pages<Agent> {
    return this.transport.pages('listAgents', { query: filter, options });
  }

  /**
   * Registers an agent for each line, and answers each with a result, in the same order, while lines are still being sent. A bad line
   * fails alone. Nothing is sent before a result is asked for.
   *
   * It is never repeated by itself. Where it breaks off send the same lines again: what was created is `unchanged` then. The secret
   * of a line with `credential` is in its result alone. There is no time-out unless `timeoutMs` is set here.
   *
   * @throws {@link UnavailableError} where the answer breaks off; what the source of the lines throws is thrown as it is.
   */
  import(lines: Source<ImportLine>, options?: TenantOptions): Lines<ImportResult> {
    return this.transport.lines('importAgents', { options }, lines);
  }

  /**
   * Streams agents, newest first, as the lines that {@link Agents.import} takes, without ids and credentials. Revoked and archived ones
   * are left out.
   *
   * @throws {@link UnavailableError} where the answer breaks off.
   */
  export(filter: QueryOf<'exportAgents'> = {}, options?: CallOptions): Lines<ImportLine> {
    return this.transport.lines('exportAgents', { query: filter, options });
  }

  /** Reads an agent. @throws {@link AgentNotFoundError} */
  get(agentId: string, options?: TenantOptions): Call<Agent> {
    return this.transport.call('getAgent', { path: { agentId }, options });
  }

  /** Changes an agent by a JSON merge patch (RFC 7396). With `ifMatch` only where it is still as it was seen. */
  update(agentId: string, patch: AgentPatch, options?: ChangeOptions): Call<Agent> {
    return this.transport.call('patchAgent', { path: { agentId }, body: patch, options });
  }

  /** Stops an agent: once this is answered it gets no token, and those it has are dead for good. */
  suspend(agentId: string, reason?: string, options?: ChangeOptions): Call<Agent> {
    return this.transport.call('suspendAgent', { path: { agentId }, body: { reason }, options });
  }

  /** Lets a suspended agent get tokens again. */
  reactivate(agentId: string, reason?: string, options?: ChangeOptions): Call<Agent> {
    return this.transport.call('reactivateAgent', { path: { agentId }, body: { reason }, options });
  }

  /** Ends an agent for good, with its credentials and tokens. */
  revoke(agentId: string, reason?: string, options?: ChangeOptions): Call<Agent> {
    return this.transport.call('revokeAgent', { path: { agentId }, body: { reason }, options });
  }

  /** Takes an agent out of use for good and keeps it for the audit. */
  archive(agentId: string, options?: ChangeOptions): Call<void> {
    return this.transport.call('archiveAgent', { path: { agentId }, options });
  }
}
