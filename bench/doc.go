// Command bench measures the product against bench/floor, a server that does nothing
// but sign, and prints the table of goals (R41): each goal, what was measured, its
// spread, and whether it was met. All of a row is measured in one run, in rounds that
// take turns, so that what is compared had the same machine. The servers, their
// databases and what asks them are processes of their own. With -against it measures
// programs against each other instead, and with -profile it writes profiles.
package main
