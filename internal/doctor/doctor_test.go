package doctor_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/doctor"
	"git.sentryagent.ai/sentryagent-idp/internal/pgtest"
	"git.sentryagent.ai/sentryagent-idp/internal/redistest"
)

// rootSecret is one that nothing is wrong with.
const rootSecret = "9f2c4e61b7a80d35c1f6e2947ab30d58e0c94b7d1f6a2835"

// installation is one that a server runs on, and how it is looked at.
type installation struct {
	dir, backups string
	settings     map[string]string
	config       doctor.Config
	owner        *pgtest.Server // nil for the embedded database
	database     string
}

// embedded makes a sound installation on the embedded database.
func embedded(t *testing.T) *installation {
	t.Helper()
	in := prepared(t)
	in.settings["TRUSTED_PROXIES"] = "127.0.0.1"
	in.serve(t)
	return in
}

// prepared makes the folders and files, and the settings that go with them.
func prepared(t *testing.T) *installation {
	t.Helper()
	in := &installation{dir: filepath.Join(t.TempDir(), "data"), backups: t.TempDir()}
	if err := os.Mkdir(in.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	in.write(t, filepath.Join(in.backups, "20260101", "agentidp.db"), "a copy", 0o600)
	in.write(t, in.path("secret"), rootSecret+"\n", 0o600)
	in.settings = map[string]string{
		"APP_ENV": "production", "PORT": "0", "HOST": "127.0.0.1", "DATA_DIR": in.dir,
		"JWT_SECRET_FILE": in.path("secret"), "JWT_ISSUER": "https://idp.example.com",
	}
	in.config = doctor.Config{
		Backups: in.backups, BackupAge: time.Hour, Now: time.Now,
		Space: func(string) (free, all uint64, err error) { return 50 << 30, 100 << 30, nil },
	}
	return in
}

func (in *installation) path(name string) string { return filepath.Join(filepath.Dir(in.dir), name) }

func (in *installation) write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func (in *installation) environ() []string {
	var all []string
	for name, value := range in.settings {
		all = append(all, name+"="+value)
	}
	return all
}

// serve runs a server on it until the test ends, and makes an admin agent.
func (in *installation) serve(t *testing.T) {
	t.Helper()
	contract, err := apptest.LoadContract()
	if err != nil {
		t.Fatal(err)
	}
	s := apptest.StartIn(t, in.dir, contract, append(in.environ(), "RATE_LIMIT=on")...)
	if s.AdminID == "" {
		if _, err := s.App.Bootstrap(t.Context(), app.AdminEmail); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "a checkpoint over all events", func() bool {
		cfg, err := config.Load(config.Sources{Environ: in.environ()})
		if err != nil {
			t.Fatal(err)
		}
		found, err := app.Survey(t.Context(), cfg, 0, time.Now)
		return err == nil && found.OldestUncovered.IsZero() && !found.NewestEvent.IsZero()
	})
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s never came", what)
		}
	}
}

// onPostgres makes a sound installation on PostgreSQL, with Redis and a role of its own.
func onPostgres(t *testing.T) *installation {
	t.Helper()
	pg, err := pgtest.Start("fsync=on", "synchronous_commit=on")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pg.Stop)
	pg.Exec(t, "postgres", "CREATE DATABASE idp")
	pg.Exec(t, "postgres", "CREATE ROLE worker LOGIN")
	in := prepared(t)
	in.owner, in.database = pg, "idp"
	maps.Copy(in.settings, map[string]string{
		"TRUSTED_PROXIES": "10.0.0.0/8", "REDIS_URL": redistest.Start(t).URL(), "SHUTDOWN_DELAY": "5s", "DATABASE_ROLE": "worker", "DATABASE_URL": pg.URL("idp"),
	})
	cfg, err := config.Load(config.Sources{Environ: in.environ()})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Migrate(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	in.settings["DATABASE_URL"] = pg.URLAs("worker", "idp")
	in.serve(t)
	return in
}

// examine looks at the installation.
func (in *installation) examine(t *testing.T) doctor.Report {
	t.Helper()
	c := in.config
	c.Sources = config.Sources{Environ: in.environ(), DotEnv: in.path(".env")}
	report, err := doctor.Examine(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// fault is something that is planted, and what must be found.
type fault struct {
	plant func(t *testing.T, in *installation)
	check string
	says  string
}

func setting(name, value string) func(*testing.T, *installation) {
	return func(_ *testing.T, in *installation) { in.settings[name] = value }
}

func statement(query string) func(*testing.T, *installation) {
	return func(t *testing.T, in *installation) { t.Helper(); in.owner.Exec(t, in.database, query) }
}

func later(d time.Duration) func(*testing.T, *installation) {
	return func(_ *testing.T, in *installation) {
		in.config.Now = func() time.Time { return time.Now().Add(d) }
	}
}

// finds plants one fault after the other, each taken back by undo, and looks.
func finds(t *testing.T, in *installation, faults map[string]fault, undo map[string]func(*testing.T, *installation)) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		t.Run(name, func(t *testing.T) {
			planted, one := *in, faults[name]
			planted.settings = maps.Clone(in.settings)
			one.plant(t, &planted)
			report := planted.examine(t)
			if undo[name] != nil {
				undo[name](t, &planted)
			}
			if report.Sound {
				t.Error("the report says that nothing is wrong")
			}
			if text := said(report, one.check); !strings.Contains(text, one.says) {
				t.Errorf("%s says %q, want %q in it", one.check, text, one.says)
			}
			if text := said(report); strings.Contains(text, rootSecret) {
				t.Errorf("the report tells the root secret: %s", text)
			}
		})
		if report := in.examine(t); !report.Sound {
			t.Fatalf("after %s was taken back something is still wrong: %s", name, said(report))
		}
	}
}

// said is all that was found wrong, or what one check found.
func said(r doctor.Report, checks ...string) string {
	var all []string
	for _, one := range r.Results {
		if one.Outcome != doctor.Sound && (len(checks) == 0 || slices.Contains(checks, one.Check)) {
			all = append(all, one.Check+": "+strings.Join(one.Findings, " | "))
		}
	}
	return strings.Join(all, "\n")
}

// TestTheDoctorFindsWhatIsWrongWithAnEmbeddedInstallation plants faults (R39).
func TestTheDoctorFindsWhatIsWrongWithAnEmbeddedInstallation(t *testing.T) {
	in := embedded(t)
	if report := in.examine(t); !report.Sound {
		t.Fatalf("something is wrong with a sound installation:\n%s", said(report))
	}
	chmod := func(path string, mode os.FileMode) func(*testing.T, *installation) {
		return func(t *testing.T, _ *installation) {
			t.Helper()
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	secretIs := func(text string) func(*testing.T, *installation) {
		return func(_ *testing.T, in *installation) {
			delete(in.settings, "JWT_SECRET_FILE")
			in.settings["JWT_SECRET"] = text
		}
	}
	copyOf := filepath.Join(in.backups, "20260101", "agentidp.db")
	finds(t, in, map[string]fault{
		"a secret that is too short":      {secretIs("short"), "settings", "JWT_SECRET: must have at least 32 bytes"},
		"an example secret":               {secretIs(strings.Repeat("changeme", 5)), "settings", "known example"},
		"a secret of one piece":           {secretIs(strings.Repeat("kx7-3vQp", 5)), "root-secret", "again and again"},
		"a secret of few characters":      {secretIs("aabbabababbbabaaabbababbbabababbabab"), "root-secret", "hardly any different"},
		"a secret in sequence":            {secretIs("abcdefghijklmnopqrstuvwxyz0123456789"), "root-secret", "a sequence"},
		"another secret":                  {secretIs("5d1e07f3c2b94a6881fe03c7d9a2b45610f8e6d3c7b1a092"), "signing-keys", "was JWT_SECRET changed"},
		"a change of secret left half":    {setting("JWT_SECRET_PREVIOUS", "5d1e07f3c2b94a6881fe03c7d9a2b45610f8e6d3c7b1a092"), "root-secret", "still opens"},
		"an issuer without TLS":           {setting("JWT_ISSUER", "http://idp.example.com"), "settings", "https in production"},
		"no TLS":                          {setting("TRUSTED_PROXIES", ""), "production", "in the clear"},
		"development":                     {setting("APP_ENV", "development"), "production", "APP_ENV is not production"},
		"no rate limits":                  {setting("RATE_LIMIT", "off"), "production", "RATE_LIMIT is off"},
		"long tokens":                     {setting("TOKEN_TTL", "12h"), "production", "TOKEN_TTL is 12h"},
		"a log of everything":             {setting("LOG_LEVEL", "debug"), "production", "LOG_LEVEL is debug"},
		"pages in the clear":              {setting("CORS_ORIGINS", "http://console.example.com,http://localhost:5173"), "production", "http://console.example.com come"},
		"proxies that are everybody":      {setting("TRUSTED_PROXIES", "0.0.0.0/0"), "proxies", "nearly everybody"},
		"a certificate that is not there": {certificateFiles("/nowhere/cert.pem", "/nowhere/key.pem"), "certificate", "cannot be used"},
		"a secret that all may read":      {chmod(in.path("secret"), 0o644), "files", "chmod o-rwx"},
		"a database that all may read":    {chmod(filepath.Join(in.dir, "agentidp.db"), 0o604), "files", "agentidp.db may be read"},
		"a folder that the group changes": {chmod(in.dir, 0o770), "files", "chmod g-w"},
		"no database":                     {setting("DATA_DIR", in.path("elsewhere")), "database", "there is no database"},
		"short retention":                 {setting("AUDIT_RETENTION_DAYS", "7"), "retention", "AUDIT_RETENTION_DAYS is 7"},
		"events past their retention":     {later(100 * 24 * time.Hour), "retention", "still there"},
		"an old signing key":              {later(200 * 24 * time.Hour), "signing-keys", "200 days old"},
		"an old secret of the admin":      {later(100 * 24 * time.Hour), "admins", "100 days old"},
		"a clock that is behind":          {later(-time.Hour), "clock", "in the future"},
		"a clock before all there is": {func(_ *testing.T, in *installation) {
			in.config.Built = time.Now().Add(time.Hour)
		}, "clock", "before this program was made"},
		"backups nobody named": {func(_ *testing.T, in *installation) { in.config.Backups = "" }, "backups", "no backup is seen"},
		"no backup":            {func(t *testing.T, in *installation) { t.Helper(); in.config.Backups = t.TempDir() }, "backups", "there is no backup"},
		"an empty backup":      {func(t *testing.T, in *installation) { t.Helper(); in.write(t, copyOf, "", 0o600) }, "backups", "there is no backup"},
		"an old backup":        {later(3 * time.Hour), "backups", "old, more than"},
		"a disk nearly full": {func(_ *testing.T, in *installation) {
			in.config.Space = func(string) (free, all uint64, err error) { return 1 << 30, 100 << 30, nil }
		}, "disk", "1024 MB left"},
		"a secret left in a .env file for all": {func(t *testing.T, in *installation) {
			t.Helper()
			in.write(t, in.path(".env"), "AUDIT_STREAM_WEBHOOK_SECRET=5d1e07f3c2b94a6881fe03c7\n", 0o644)
		}, "files", ".env may be read"},
		"a secret that the server made, left over": {func(t *testing.T, in *installation) {
			t.Helper()
			in.write(t, filepath.Join(in.dir, "jwt-secret"), rootSecret, 0o600)
		}, "root-secret", "is left of the time"},
	}, map[string]func(*testing.T, *installation){
		"a secret that all may read":               chmod(in.path("secret"), 0o600),
		"a database that all may read":             chmod(filepath.Join(in.dir, "agentidp.db"), 0o600),
		"a folder that the group changes":          chmod(in.dir, 0o700),
		"an empty backup":                          func(t *testing.T, in *installation) { t.Helper(); in.write(t, copyOf, "a copy", 0o600) },
		"a secret left in a .env file for all":     removes(in.path(".env")),
		"a secret that the server made, left over": removes(filepath.Join(in.dir, "jwt-secret")),
	})
}

func removes(path string) func(*testing.T, *installation) {
	return func(t *testing.T, _ *installation) {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func certificateFiles(cert, key string) func(*testing.T, *installation) {
	return func(_ *testing.T, in *installation) {
		in.settings["TLS_CERT_FILE"], in.settings["TLS_KEY_FILE"] = cert, key
	}
}

// TestTheDoctorFindsWhatIsWrongOnPostgres plants what a shared database can be wrong in.
func TestTheDoctorFindsWhatIsWrongOnPostgres(t *testing.T) {
	in := onPostgres(t)
	if report := in.examine(t); !report.Sound {
		t.Fatalf("something is wrong with a sound installation:\n%s", said(report))
	}
	noFolder := func(more func(*testing.T, *installation)) func(*testing.T, *installation) {
		return func(t *testing.T, in *installation) {
			t.Helper()
			in.config.Backups = ""
			more(t, in)
		}
	}
	finds(t, in, map[string]fault{
		"a superuser":                   {setting("DATABASE_URL", in.owner.URL("idp")), "role", "is a superuser"},
		"a right to delete":             {statement("GRANT DELETE ON audit_events TO worker"), "role", "change or delete events"},
		"a right to make tables":        {statement("GRANT CREATE ON SCHEMA public TO worker"), "role", "make tables"},
		"a right to make roles":         {statement("ALTER ROLE worker CREATEROLE"), "role", "may make roles"},
		"a member of the owner":         {statement("CREATE ROLE keeper; ALTER TABLE audit_events OWNER TO keeper; GRANT keeper TO worker"), "role", "owns the record"},
		"migrations behind":             {statement("DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)"), "schema", "run agentidp migrate"},
		"a schema of a later program":   {statement("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)"), "schema", "newer than"},
		"commits that are not kept":     {statement("ALTER ROLE worker SET synchronous_commit = off"), "durability", "synchronous_commit is off"},
		"a clock that is ahead":         {later(10 * time.Second), "clock", "apart"},
		"no archive":                    {noFolder(func(*testing.T, *installation) {}), "backups", "archives no log"},
		"a node that leaves too fast":   {setting("SHUTDOWN_DELAY", "0s"), "upgrades", "SHUTDOWN_DELAY"},
		"a database that is not there":  {setting("DATABASE_URL", "postgres://worker@127.0.0.1:1/idp"), "database", "cannot be looked at"},
		"a database reached in clear":   {setting("DATABASE_URL", "postgres://worker@192.0.2.1/idp?connect_timeout=1"), "production", "in the clear"},
		"a Redis that is away":          {setting("REDIS_URL", "redis://127.0.0.1:1"), "redis", "redis-down.md"},
		"a Redis URL that is none":      {setting("REDIS_URL", "memcached://127.0.0.1"), "settings", "REDIS_URL"},
		"a Redis database that is none": {setting("REDIS_URL", in.settings["REDIS_URL"]+"/ninety"), "redis", "REDIS_URL"},
	}, map[string]func(*testing.T, *installation){
		"a right to delete":      statement("REVOKE DELETE ON audit_events FROM worker"),
		"a right to make tables": statement("REVOKE CREATE ON SCHEMA public FROM worker"),
		"a right to make roles":  statement("ALTER ROLE worker NOCREATEROLE"),
		"a member of the owner":  statement("ALTER TABLE audit_events OWNER TO owner; DROP ROLE keeper"),
		"migrations behind": func(t *testing.T, in *installation) {
			t.Helper()
			statement("INSERT INTO goose_db_version (version_id, is_applied) VALUES ("+newestMigration(t)+", true)")(t, in)
		},
		"a schema of a later program": statement("DELETE FROM goose_db_version WHERE version_id = 9999"),
		"commits that are not kept":   statement("ALTER ROLE worker RESET synchronous_commit"),
	})
}

// newestMigration gives the number of the last migration of PostgreSQL.
func newestMigration(t *testing.T) string {
	t.Helper()
	all, err := filepath.Glob("../store/postgres/migrations/*.sql")
	if err != nil || len(all) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	number, _, _ := strings.Cut(filepath.Base(slices.Max(all)), "_")
	return number
}

// TestWhatIsAcceptedDoesNotCount lets an operator decide.
func TestWhatIsAcceptedDoesNotCount(t *testing.T) {
	in := embedded(t)
	in.config.Backups = ""
	in.config.Accept = []string{"backups"}
	report := in.examine(t)
	if !report.Sound || !strings.Contains(said(report), "backups: no backup is seen") {
		t.Errorf("sound=%t: %s", report.Sound, said(report))
	}
	_, err := doctor.Examine(context.Background(), doctor.Config{Accept: []string{"weather"}, Now: time.Now})
	if err == nil || !strings.Contains(err.Error(), `"weather"`) || !strings.Contains(err.Error(), "signing-keys") {
		t.Errorf("a check that there is not: %v", err)
	}
}

// TestLookingMakesNothing in a folder where nothing is.
func TestLookingMakesNothing(t *testing.T) {
	dir := t.TempDir()
	c := doctor.Config{Sources: config.Sources{Environ: []string{"DATA_DIR=" + dir}}, Now: time.Now, Space: doctor.Space}
	report, err := doctor.Examine(t.Context(), c)
	if err != nil || report.Sound {
		t.Errorf("an empty folder is sound: %v", err)
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
		t.Errorf("it left %v (%v)", made, err)
	}
	if free, all, err := doctor.Space(dir); err != nil || free == 0 || all < free {
		t.Errorf("%d of %d bytes are free, %v", free, all, err)
	}
	if _, _, err := doctor.Space(filepath.Join(dir, "none")); err == nil {
		t.Error("a folder that is not there has room")
	}
}
