// Package validate holds the rules on users' objects that one object alone can break. Webhooks refuse an object that
// breaks them; the compiler, which may meet objects that no webhook saw, fails closed. Each finding names the field and says
// what to write instead.
package validate
