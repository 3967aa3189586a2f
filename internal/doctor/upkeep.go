package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// How old what opens doors may become.
const (
	maxKeyAge        = 180 * 24 * time.Hour
	maxCredentialAge = 90 * 24 * time.Hour
)

// day is for people to read.
const day = 24 * time.Hour

// signingKeys looks at whether the root secret opens them, and at their age.
func signingKeys(_ context.Context, s *state) ([]string, error) {
	var f found
	if s.app == nil {
		if s.cfgErr != nil || s.surveyErr != nil || s.survey.Schema != s.survey.Newest {
			return nil, s.appErr
		}
		f.when(true, "the database cannot be opened with these settings: %v", s.appErr)
		return f, nil
	}
	signer, err := s.app.Ring.Signer(s.now)
	f.when(err != nil, "there is no signing key yet: agentidp serve makes the first one")
	for _, k := range s.app.Ring.List() {
		age := s.now.Sub(k.ActivatesAt)
		f.when(err == nil && k.KID == signer.KID() && age > maxKeyAge, "the signing key %s is %d days old: agentidp keys rotate makes the next one, and nobody notices", k.KID, age/day)
	}
	return f, nil
}

// backups looks for one that is not too old.
func backups(_ context.Context, s *state) ([]string, error) {
	if s.cfgErr != nil {
		return nil, errSettings
	}
	var f found
	if s.Backups != "" {
		at, err := newest(s.Backups)
		if err != nil {
			return nil, fmt.Errorf("looking for backups: %w", err)
		}
		age := s.now.Sub(at)
		f.when(at.IsZero(), "there is no backup in %s: docs/runbooks/embedded-backup.md, postgres-backup.md", s.Backups)
		f.when(!at.IsZero() && age > s.BackupAge, "the newest backup in %s is %s old, more than %s: why was none made since?", s.Backups, age.Round(time.Minute), s.BackupAge)
		return f, nil
	}
	if _, embedded := s.embedded(); embedded {
		f.when(true, "no backup is seen: say with --backups in which folder they are (docs/runbooks/embedded-backup.md)")
		return f, nil
	}
	if err := s.surveyed(); err != nil {
		return nil, err
	}
	archive := s.survey.Archive
	switch {
	case !archive.On:
		f.when(true, "no backup is seen: PostgreSQL archives no log, and --backups names no folder (docs/runbooks/postgres-backup.md)")
	case archive.FailedAt.After(archive.At):
		f.when(true, "PostgreSQL fails to archive its log, last at %s: its own log says why; until then nothing since can be restored", archive.FailedAt.UTC().Format(time.RFC3339))
	case archive.At.IsZero():
		f.when(true, "PostgreSQL has not archived anything yet: docs/runbooks/postgres-backup.sh archive")
	case s.now.Sub(archive.At) > s.BackupAge:
		f.when(true, "PostgreSQL last archived its log at %s: set archive_timeout, so that a quiet database does, too", archive.At.UTC().Format(time.RFC3339))
	}
	return f, nil
}

// newest gives when the newest file in a folder, or in a folder in it, was written; zero
// where there is none that holds anything.
func newest(dir string) (time.Time, error) {
	var at time.Time
	for _, pattern := range []string{"*", "*/*"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return at, err
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil {
				return at, err
			}
			if info.Mode().IsRegular() && info.Size() > 0 && info.ModTime().After(at) {
				at = info.ModTime()
			}
		}
	}
	_, err := os.Stat(dir)
	return at, err
}

// admins looks at who may change agents, and at how old their secrets are.
func admins(ctx context.Context, s *state) ([]string, error) {
	if s.app == nil {
		return nil, s.appErr
	}
	var f found
	org := organization.DefaultID()
	holders, err := s.app.Agents.List(ctx, org, agent.Filter{Status: agent.Active, Capability: scope.AgentsWrite}, page.Query{Limit: page.MaxLimit})
	if err != nil {
		return nil, err
	}
	usable := 0
	for _, a := range holders.Items {
		all, err := s.app.Credentials.List(ctx, org, a.ID, page.Query{Limit: page.MaxLimit})
		if err != nil {
			return nil, err
		}
		for _, c := range all.Items {
			if c.Status(s.now) != credential.Active {
				continue
			}
			usable++
			age := s.now.Sub(c.CreatedAt)
			f.when(age > maxCredentialAge, "the secret of %s (credential %s) is %d days old: rotate it, POST /agents/%s/credentials/%s/rotate", a.Email, c.ID, age/day, a.ID, c.ID)
		}
	}
	f.when(usable == 0, "nobody can manage agents: agentidp admin bootstrap makes an admin agent")
	return f, nil
}

// disk looks at the room that is left for the embedded database.
func disk(_ context.Context, s *state) ([]string, error) {
	path, embedded := s.embedded()
	if !embedded || s.Space == nil {
		return nil, errNotAsked
	}
	const least, share = 512 << 20, 20 // bytes; one in so many
	dir := filepath.Dir(path)
	free, all, err := s.Space(dir)
	if err != nil {
		return nil, fmt.Errorf("looking at the room on the disk: %w", err)
	}
	var f found
	f.when(free < least || free < all/share, "the disk of %s has %d MB left of %d: when it is full no token can be recorded, and so none is issued", dir, free>>20, all>>20)
	return f, nil
}
