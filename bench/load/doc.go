// Package load asks a server as often as it answers (closed loop) or at a rate that
// does not wait for it (open loop). It speaks HTTP/1.1 on bare connections, so that
// it takes little of the machine from the server it measures. In the open loop a
// latency counts from the moment the request was due, so that a server that stalls is
// charged for those it kept waiting (coordinated omission). Latencies are kept in HDR
// histograms of microseconds.
package load
