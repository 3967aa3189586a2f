// Package witness is both sides of C2SP tlog-witness: the log's, which asks witnesses
// to cosign a checkpoint before it is published, and the witness's, which remembers
// the last checkpoint it saw of a log and cosigns only one that grew out of it. A
// watcher looks at logs that do not know of it. docs/witnesses.md is for operators.
package witness
