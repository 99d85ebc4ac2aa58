// Show openapi.json. Calls use the cookie of the user logged in to Airflow, with a header that proves their origin.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null,
  requestInterceptor: (request) => {
    request.headers["X-Requested-With"] = "swagger-ui";
    return request;
  },
});
