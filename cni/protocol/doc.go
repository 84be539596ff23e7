// Package protocol is what the CNI plugin and the node agent say to each other.
//
// The plugin connects to the agent's unix socket, writes one [Request] as a line of JSON, reads one [Response] as a line
// of JSON, and the connection is over. The agent may take it that a plugin which hangs up no longer wants its answer.
// Every message is bounded by [MaxMessage], every exchange by a deadline on either side.
//
// Unknown members of a message are ignored, so that a newer side may say more than an older one understands. A change
// that an older side must not ignore raises [Version].
//
// The package needs nothing but the standard library: the plugin stays small.
package protocol
