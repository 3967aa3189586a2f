package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
)

// Outcome is what a check came to.
type Outcome string

// What a check comes to.
const (
	Sound Outcome = "sound"
	Wrong Outcome = "wrong"
	// Unchecked is what could not be looked at, for a reason that is told.
	Unchecked Outcome = "unchecked"
	// Accepted is what the operator does not want to hear of.
	Accepted Outcome = "accepted"
)

// Result is one check.
type Result struct {
	Check   string  `json:"check"`
	Outcome Outcome `json:"outcome"`
	// Findings say each what is wrong and what to do; of an unchecked one, why.
	Findings []string `json:"findings,omitempty"`
}

// Report is all of them, in the order in which they are to be read.
type Report struct {
	// Sound says that nothing is wrong, and that nothing was left unchecked.
	Sound   bool     `json:"sound"`
	Results []Result `json:"results"`
}

// Config is what an examination needs.
type Config struct {
	// Sources are where the settings come from, as for the server.
	Sources config.Sources
	// Backups is the folder where backups arrive, and BackupAge how old the newest may
	// be. Without a folder only a PostgreSQL that archives its log is believed.
	Backups   string
	BackupAge time.Duration
	// Accept names checks that are not to count.
	Accept []string
	Now    func() time.Time
	// Built is when the program was made, zero where that is not known.
	Built time.Time
	// Space gives the free and all bytes of the file system that holds a path.
	Space func(path string) (free, all uint64, err error)
}

// check is one thing to look at. It gives what is wrong; an error says why it could not
// look.
type check struct {
	name string
	look func(ctx context.Context, s *state) ([]string, error)
}

// errNotAsked says that a check does not concern this installation.
var errNotAsked = errors.New("does not concern this installation")

// checks are all there are. The names are stable, as scripts accept by them.
func checks() []check {
	return []check{
		{"settings", settings},
		{"production", production},
		{"root-secret", rootSecret},
		{"files", files},
		{"certificate", certificate},
		{"proxies", proxies},
		{"database", database},
		{"schema", schema},
		{"role", role},
		{"durability", durability},
		{"clock", clock},
		{"signing-keys", signingKeys},
		{"record", record},
		{"retention", retention},
		{"backups", backups},
		{"admins", admins},
		{"redis", sharing},
		{"upgrades", upgrades},
		{"disk", disk},
	}
}

// Names gives the names of all checks.
func Names() []string {
	var names []string
	for _, c := range checks() {
		names = append(names, c.name)
	}
	return names
}

// state is what the checks look at; what could not be had is an error.
type state struct {
	Config
	now       time.Time
	cfg       *config.Config
	cfgErr    error
	survey    store.Survey
	surveyErr error
	app       *app.App
	appErr    error
}

// Errors that say why something was not looked at.
var (
	errSettings = errors.New("the settings are wrong")
	errDatabase = errors.New("the database could not be looked at")
	errSchema   = errors.New("the schema is not that of this program")
)

// Examine runs every check. It fails where an accepted name is none of theirs.
func Examine(ctx context.Context, c Config) (Report, error) {
	for _, name := range c.Accept {
		if !slices.Contains(Names(), name) {
			return Report{}, fmt.Errorf("there is no check %q; there are %s", name, strings.Join(Names(), ", "))
		}
	}
	s := &state{Config: c, now: c.Now()}
	defer s.close()
	s.open(ctx)
	report := Report{Sound: true}
	for _, one := range checks() {
		r := Result{Check: one.name, Outcome: Sound}
		found, err := one.look(ctx, s)
		switch {
		case errors.Is(err, errNotAsked):
			continue
		case err != nil:
			r.Outcome, r.Findings = Unchecked, []string{err.Error()}
		case len(found) > 0:
			r.Outcome, r.Findings = Wrong, found
		}
		if r.Outcome != Sound && slices.Contains(c.Accept, one.name) {
			r.Outcome = Accepted
		}
		report.Sound = report.Sound && (r.Outcome == Sound || r.Outcome == Accepted)
		report.Results = append(report.Results, r)
	}
	return report, nil
}

// open reads the settings, surveys the database and, where that is as it should be, opens
// it as the server does.
func (s *state) open(ctx context.Context) {
	s.cfg, s.cfgErr = config.Load(s.Sources)
	if s.cfgErr != nil {
		s.surveyErr, s.appErr = errSettings, errSettings
		return
	}
	s.survey, s.surveyErr = app.Survey(ctx, s.cfg, retentionGrace, s.Now)
	switch {
	case s.surveyErr != nil:
		s.appErr = errDatabase
	case s.survey.Schema != s.survey.Newest:
		s.appErr = errSchema
	default:
		s.app, s.appErr = app.Open(ctx, s.cfg, slog.New(slog.DiscardHandler), s.Now)
	}
}

func (s *state) close() {
	if s.app != nil {
		_ = s.app.Close() // nothing was written
	}
}

// surveyed gives why the database could not be surveyed, where it could not, to all checks
// but the first, which tells it at length.
func (s *state) surveyed() error {
	if s.surveyErr != nil {
		return errDatabase
	}
	return nil
}

// embedded says whether the database is the one in a file.
func (s *state) embedded() (path string, ok bool) {
	if s.cfg == nil {
		return "", false
	}
	return s.cfg.Embedded()
}

// missing says that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// found collects findings.
type found []string

func (f *found) when(wrong bool, format string, args ...any) {
	if wrong {
		*f = append(*f, fmt.Sprintf(format, args...))
	}
}
