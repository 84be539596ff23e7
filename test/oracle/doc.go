// Package oracle says what should happen to a packet. Users reads it off the objects that users write, slowly and in the
// plainest way; Rendered reads it off the objects that the operator renders. Neither shares code with the compiler. Both
// only answer what policies decide at one place; the way of a packet from place to place, and the order of the places, is
// that of walk. Tests compare the two with each other, with the tables of the node agent, and with packets in kernels.
package oracle
