// Package board holds the rendered state of the cluster as one replica of the operator knows it, and knows which node
// is concerned by what: its own NodeState, the programs that its endpoints and host endpoints name, the sets that these
// name, the endpoints in the sets, and the networks of all nodes.
//
// A Subscription stands for one node. A change of the board marks what the node lacks; Take gives that in the form that it
// has by then. So a node that is slow gets few batches, each of the newest, and what is kept for it can't grow beyond what
// concerns it. Nobody waits for a slow node.
//
// Objects are taken apart into items, so that one endpoint's change is one small change: the pods of a NodeState, the
// endpoints of NodeEndpoints and the sets of a SetCatalog are items of their own.
package board
