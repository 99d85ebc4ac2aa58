// Shows openapi.json. Calls go with the cookie of whoever is logged in to Airflow, and prove that they are ours.
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
