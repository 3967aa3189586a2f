import type { Call } from './call.js';
import type { Pages } from './pages.js';
import type { Transport } from './transport.js';
import type { CallOptions, ChangeOptions, CreateOptions, NewOrganization, Organization, OrganizationPatch, QueryOf } from './types.js';

/** Tenants and their limits, for the operator. */
export class Organizations {
  /** @internal */
  constructor(private readonly transport: Transport) {}

  /** Makes a tenant. */
  create(organization: NewOrganization, options?: Omit<CreateOptions, 'organizationId'>): Call<Organization> {
    return this.transport.call('createOrganization', { body: organization, options });
  }

  /** Lists all tenants, newest first. */
  list(page: QueryOf<'listOrganizations'> = {}, options?: CallOptions): Pages<Organization> {
    return this.transport.pages('listOrganizations', { query: page, options });
  }

  /** Reads a tenant. */
  get(organizationId: string, options?: CallOptions): Call<Organization> {
    return this.transport.call('getOrganization', { path: { organizationId }, options });
  }

  /** Changes a tenant by a JSON merge patch; null removes a limit. */
  update(organizationId: string, patch: OrganizationPatch, options?: Omit<ChangeOptions, 'organizationId'>): Call<Organization> {
    return this.transport.call('patchOrganization', { path: { organizationId }, body: patch, options });
  }
}
