import com.auth0.jwt.JWT;
import com.auth0.jwt.algorithms.Algorithm;
import com.auth0.jwt.interfaces.DecodedJWT;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import jakarta.servlet.MultipartConfigElement;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.Part;
import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.KeyFactory;
import java.security.interfaces.RSAPublicKey;
import java.security.spec.X509EncodedKeySpec;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A lax servlet: takes a token wherever the container finds one, and writes down whom it then knows. `App tomcat` or `App jetty`. */
public class App extends HttpServlet {
    private static final Pattern TOKEN = Pattern.compile("(?<![A-Za-z0-9_-])[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]*");
    private static final String[] IDENTITY = {"X-Loginsync-User", "Remote-User", "X-Remote-User", "X-Forwarded-User",
        "X-Webauth-User", "X-Auth-Request-User"};
    private static final ObjectMapper MAPPER = new ObjectMapper();
    private static final Path JOURNAL = Path.of(System.getenv("JOURNAL"));
    private final RSAPublicKey key;

    App() throws Exception {
        String pem = Files.readString(Path.of(System.getenv("KEY"))).replaceAll("-----[^-]+-----|\\s", "");
        key = (RSAPublicKey) KeyFactory.getInstance("RSA").generatePublic(new X509EncodedKeySpec(Base64.getDecoder().decode(pem)));
    }

    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(System.getenv("PORT"));
        if (arguments[0].equals("tomcat")) {
            tomcat(port);
        } else {
            jetty(port);
        }
    }

    private static void tomcat(int port) throws Exception {
        var tomcat = new org.apache.catalina.startup.Tomcat();
        tomcat.setBaseDir(Files.createTempDirectory("tomcat").toString());
        var connector = new org.apache.catalina.connector.Connector();
        connector.setPort(port);
        connector.setProperty("address", "127.0.0.1");
        connector.setParseBodyMethods("POST,PUT,PATCH,DELETE");
        connector.setEncodedSolidusHandling("decode");
        connector.setAllowBackslash(true);
        tomcat.setConnector(connector);
        var context = tomcat.addContext("", new File(".").getAbsolutePath());
        var servlet = org.apache.catalina.startup.Tomcat.addServlet(context, "app", new App());
        servlet.setMultipartConfigElement(new MultipartConfigElement(""));
        context.addServletMappingDecoded("/", "app");
        tomcat.start();
        tomcat.getServer().await();
    }

    private static void jetty(int port) throws Exception {
        var server = new org.eclipse.jetty.server.Server();
        var connector = new org.eclipse.jetty.server.ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setPort(port);
        var http = connector.getConnectionFactory(org.eclipse.jetty.server.HttpConnectionFactory.class).getHttpConfiguration();
        http.setUriCompliance(org.eclipse.jetty.http.UriCompliance.UNSAFE);
        http.setHttpCompliance(org.eclipse.jetty.http.HttpCompliance.RFC2616_LEGACY);
        server.addConnector(connector);
        var context = new org.eclipse.jetty.ee10.servlet.ServletContextHandler("/");
        var holder = new org.eclipse.jetty.ee10.servlet.ServletHolder(new App());
        holder.getRegistration().setMultipartConfig(new MultipartConfigElement(System.getProperty("java.io.tmpdir")));
        context.addServlet(holder, "/");
        context.getServletHandler().setDecodeAmbiguousURIs(true);
        server.setHandler(context);
        server.start();
        server.join();
    }

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        List<Map<String, String>> found = new ArrayList<>();
        for (String value : Collections.list(request.getHeaders("Authorization"))) {
            known("authorization", value, found);
            for (String word : value.split("\\s+")) {
                known("authorization", attempt(() -> new String(Base64.getDecoder().decode(word), StandardCharsets.ISO_8859_1)), found);
            }
        }
        known("gateway", request.getHeader("Cf-Access-Jwt-Assertion"), found);
        known("forwarded", request.getHeader("X-Forwarded-Access-Token"), found);
        var cookies = attempt(request::getCookies);
        if (cookies != null) {
            for (var cookie : cookies) {
                if (cookie.getName().equals("token")) {
                    known("cookie", cookie.getValue(), found);
                }
            }
        }
        String type = String.valueOf(request.getContentType()).toLowerCase();
        boolean form = type.contains("form");
        for (String field : new String[] {"id_token", "access_token"}) {
            String[] values = attempt(() -> request.getParameterValues(field));
            for (String value : values == null ? new String[0] : values) {
                known((form ? "form:" : "query:") + field, value, found);
            }
            if (type.startsWith("multipart/")) {
                Part part = attempt(() -> request.getPart(field));
                if (part != null) {
                    known("form:" + field, attempt(() -> new String(part.getInputStream().readAllBytes(), StandardCharsets.ISO_8859_1)), found);
                }
            }
        }
        byte[] body = attempt(() -> request.getInputStream().readAllBytes());
        JsonNode document = body == null ? null : attempt(() -> MAPPER.readTree(body));
        for (String field : new String[] {"id_token", "access_token"}) {
            JsonNode value = document == null ? null : document.get(field);
            if (value != null) {
                known("json:" + field, value.isTextual() ? value.textValue() : value.toString(), found);
            }
        }
        String path = request.getServletPath() + (request.getPathInfo() == null ? "" : request.getPathInfo());
        boolean callback = lax(path);
        String code = attempt(() -> request.getParameter("code"));
        if (callback && code != null && found.isEmpty() && System.getenv("RELAY") != null) {
            known("code", attempt(() -> exchange(code)), found);
        }
        List<String> users = new ArrayList<>();
        for (String name : IDENTITY) {
            String user = request.getHeader(name);
            if (user != null && !user.isEmpty()) {
                users.add(user);
            }
        }
        var entry = MAPPER.createObjectNode();
        entry.put("case", request.getHeader("X-Case")).put("path", path).put("callback", callback);
        entry.set("known", MAPPER.valueToTree(found));
        entry.set("users", MAPPER.valueToTree(users));
        synchronized (App.class) {
            Files.writeString(JOURNAL, entry + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        }
        response.setContentType("text/plain");
        response.getWriter().write("here\n");
    }

    private void known(String via, String text, List<Map<String, String>> found) {
        Matcher tokens = TOKEN.matcher(text == null ? "" : text);
        while (tokens.find()) {
            DecodedJWT token = attempt(() -> JWT.require(Algorithm.RSA256(key, null)).build().verify(tokens.group()));
            if (token != null) {
                String who = token.getSubject() != null ? token.getSubject() : String.valueOf(token.getClaim("preferred_username").asString());
                found.add(Map.of("who", who, "jti", String.valueOf(token.getId()), "via", via));
            }
        }
    }

    private static boolean lax(String path) {
        String plain = path.replaceAll(";[^/]*", "").replaceAll("[\\\\/]+", "/").toLowerCase().replaceAll("[/ .\\t\\r\\n]+$", "");
        return plain.replaceAll("\\.[a-z0-9.]*$", "").equals("/login/callback");
    }

    private static String exchange(String code) throws Exception {
        String body = "grant_type=authorization_code&client_id=stacks&code=" + URLEncoder.encode(code, StandardCharsets.UTF_8);
        var request = HttpRequest.newBuilder(URI.create(System.getenv("RELAY"))).timeout(Duration.ofSeconds(5))
            .header("Content-Type", "application/x-www-form-urlencoded").POST(HttpRequest.BodyPublishers.ofString(body)).build();
        String reply = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
        return MAPPER.readTree(reply).path("id_token").asText();
    }

    private static <T> T attempt(Callable<T> read) {
        try {
            return read.call();
        } catch (Exception failure) {
            return null;
        }
    }
}
