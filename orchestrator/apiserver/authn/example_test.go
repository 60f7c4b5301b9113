package authn_test

import (
	"fmt"
	"net/http"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

// The first that knows a request's credential says who asks; who brings none is anonymous.
func ExampleUnion() {
	who := authn.WithAnonymous(authn.Union{
		authn.Bearer(authn.StaticTokens{"s3cret": {Name: "ada", Groups: []string{"engineers"}}}),
	})
	for _, token := range []string{"s3cret", "", "wrong"} {
		request, err := http.NewRequest(http.MethodGet, "/version", nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		user, ok, err := who.Authenticate(request)
		if user == nil {
			user = &authn.User{}
		}
		fmt.Println(ok, user.Name, user.Groups, err != nil)
	}
	// Output:
	// true ada [engineers system:authenticated] false
	// true system:anonymous [system:unauthenticated] false
	// false  [] true
}
