package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/doctor"
)

// notSound is the exit code where something is wrong.
const notSound = 2

// errNotSound says that the installation is not fit for production.
var errNotSound = errors.New("the installation is not fit for production")

func (c *command) doctor() *cobra.Command {
	var asJSON, all bool
	examined := doctor.Config{Now: time.Now, Built: built(), Space: doctor.Space}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what of this installation is not fit for production",
		Long: `doctor reads the settings as the server does, looks at the files, the database, the
record and Redis, and prints one line for each thing that is wrong, with what to do
about it. It prints nothing of a sound installation. Run it with the server's own
settings, as its user, beside the running server. It changes nothing.

It exits with 0 where nothing is wrong, and with 2 where something is or could not be
looked at. What is meant to be as it is can be accepted by the name of its check:
` + wrapped(doctor.Names()) + `.`,
		Example: "  agentidp doctor --backups /var/backups/agentidp\n  agentidp doctor --json --accept admins",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			examined.Sources = c.sources()
			report, err := doctor.Examine(cmd.Context(), examined)
			if err != nil {
				return fmt.Errorf("--accept: %w", err)
			}
			out := &printer{w: cmd.OutOrStdout()}
			if asJSON {
				body, err := json.MarshalIndent(report, "", "  ")
				if err != nil {
					return err
				}
				out.line("%s", body)
			} else {
				out.report(report, all)
			}
			if out.err == nil && !report.Sound {
				return &exitError{notSound, errNotSound}
			}
			return out.err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print all checks as one JSON object")
	cmd.Flags().BoolVar(&all, "all", false, "print also what is sound")
	cmd.Flags().StringVar(&examined.Backups, "backups", "", "folder where backups arrive")
	cmd.Flags().DurationVar(&examined.BackupAge, "backup-age", 26*time.Hour, "how old the newest backup may be")
	cmd.Flags().StringSliceVar(&examined.Accept, "accept", nil, "names of checks that are not to count")
	return cmd
}

// report prints a line for each finding.
func (p *printer) report(r doctor.Report, all bool) {
	for _, one := range r.Results {
		if all && len(one.Findings) == 0 {
			p.line("%s: %s", one.Check, one.Outcome)
		}
		for _, finding := range one.Findings {
			if all || one.Outcome != doctor.Accepted {
				p.line("%s: %s: %s", one.Check, one.Outcome, finding)
			}
		}
	}
}

// wrapped gives words in lines.
func wrapped(words []string) string {
	const width = 80
	var b strings.Builder
	line := 0
	for i, word := range words {
		if i > 0 {
			word = ", " + word
		}
		if line+len(word) > width {
			b.WriteString(",\n")
			word, line = strings.TrimPrefix(word, ", "), 0
		}
		b.WriteString(word)
		line += len(word)
	}
	return b.String()
}

// built is when the program's source was committed; zero where that is not known.
func built() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			at, _ := time.Parse(time.RFC3339, s.Value) // zero where it is none
			return at
		}
	}
	return time.Time{}
}
