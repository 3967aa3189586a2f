// Generated from docs/openapi.yaml by scripts/generate.mjs (npm run generate). Not to be edited.

import type { Schemas } from './types.js';

/** Path and answer of each operation. */
export interface Calls {
  listAgents: {
    answer: Schemas["AgentList"];
  };
  createAgent: {
    answer: Schemas["CreatedAgent"];
  };
  getAgent: {
    path: {
      agentId: string;
    };
    answer: Schemas["Agent"];
  };
  archiveAgent: {
    path: {
      agentId: string;
    };
  };
  patchAgent: {
    path: {
      agentId: string;
    };
    answer: Schemas["Agent"];
  };
  suspendAgent: {
    path: {
      agentId: string;
    };
    answer: Schemas["Agent"];
  };
  reactivateAgent: {
    path: {
      agentId: string;
    };
    answer: Schemas["Agent"];
  };
  revokeAgent: {
    path: {
      agentId: string;
    };
    answer: Schemas["Agent"];
  };
  listCredentials: {
    path: {
      agentId: string;
    };
    answer: Schemas["CredentialList"];
  };
  createCredential: {
    path: {
      agentId: string;
    };
    answer: Schemas["IssuedCredential"];
  };
  rotateCredential: {
    path: {
      agentId: string;
      credentialId: string;
    };
    answer: Schemas["IssuedCredential"];
  };
  revokeCredential: {
    path: {
      agentId: string;
      credentialId: string;
    };
  };
  listRevocations: {
    answer: Schemas["RevocationList"];
  };
  startRevocation: {
    answer: Schemas["RevocationAnswer"] | Schemas["Revocation"];
  };
  getRevocation: {
    path: {
      revocationId: string;
    };
    answer: Schemas["Revocation"];
  };
  undoRevocation: {
    path: {
      revocationId: string;
    };
    answer: Schemas["Revocation"];
  };
  listCredentialUses: {
    path: {
      agentId: string;
      credentialId: string;
    };
    answer: Schemas["CredentialUses"];
  };
  brownOutCredential: {
    path: {
      agentId: string;
      credentialId: string;
    };
    answer: Schemas["Credential"];
  };
  retireCredential: {
    path: {
      agentId: string;
      credentialId: string;
    };
    answer: Schemas["Credential"];
  };
  listExpiringCredentials: {
    answer: Schemas["CredentialList"];
  };
  listRotationPolicies: {
    answer: Schemas["RotationPolicyList"];
  };
  setRotationPolicy: {
    path: {
      agentType: string;
    };
    answer: Schemas["RotationPolicy"];
  };
  removeRotationPolicy: {
    path: {
      agentType: string;
    };
  };
  reportLeaks: {
    answer: Schemas["LeakVerdicts"];
  };
  lookUpSecrets: {
    answer: Schemas["SecretList"];
  };
  rotateOwnSecret: {
    answer: Schemas["RotatedSecret"];
  };
  listEvents: {
    answer: Schemas["EventList"];
  };
  getEvent: {
    path: {
      eventId: string;
    };
    answer: Schemas["Event"];
  };
  proveEvent: {
    path: {
      eventId: string;
    };
    answer: Schemas["Proof"];
  };
  proveConsistency: {
    answer: Schemas["Consistency"];
  };
  tile: {
    path: {
      level: string;
      index: string;
    };
  };
  entries: {
    path: {
      index: string;
    };
  };
  listOrganizations: {
    answer: Schemas["OrganizationList"];
  };
  createOrganization: {
    answer: Schemas["Organization"];
  };
  getOrganization: {
    path: {
      organizationId: string;
    };
    answer: Schemas["Organization"];
  };
  patchOrganization: {
    path: {
      organizationId: string;
    };
    answer: Schemas["Organization"];
  };
  issueToken: {
    answer: Schemas["TokenAnswer"];
  };
  introspectToken: {
    answer: Schemas["Introspection"];
  };
  serverMetadata: {
    answer: Schemas["ServerMetadata"];
  };
  openidMetadata: {
    answer: Schemas["ServerMetadata"];
  };
  keySet: {
    answer: Schemas["KeySet"];
  };
  health: {
    answer: Schemas["Health"];
  };
  live: {
    answer: Schemas["Health"];
  };
  ready: {
    answer: Schemas["Health"];
  };
  apiDocsAsset: {
    path: {
      asset: string;
    };
  };
  contractJSON: {
    answer: Record<string, never>;
  };
}
