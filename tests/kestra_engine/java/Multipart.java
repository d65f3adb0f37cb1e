import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The text parts of a multipart/form-data body, by name. */
final class Multipart {
    private static final Pattern BOUNDARY = Pattern.compile("^multipart/form-data;.*boundary=\"?([^\";]+)");
    private static final Pattern NAME = Pattern.compile("(?i)content-disposition: *form-data;.*? name=\"([^\"]*)\"");

    private Multipart() {
    }

    /** Bytes are read as Latin-1 first, so that none is lost while the parts are taken apart. */
    static Map<String, String> read(String contentType, byte[] body) {
        Map<String, String> parts = new LinkedHashMap<>();
        if (body.length == 0) {
            return parts;
        }
        Matcher boundary = BOUNDARY.matcher(contentType == null ? "" : contentType);
        if (!boundary.find()) {
            throw new IllegalArgumentException("inputs are taken as multipart/form-data only");
        }
        String text = "\r\n" + new String(body, StandardCharsets.ISO_8859_1);
        String[] pieces = text.split(Pattern.quote("\r\n--" + boundary.group(1)), -1);
        for (int i = 1; i < pieces.length - 1; i++) {
            int end = pieces[i].indexOf("\r\n\r\n");
            String head = pieces[i].substring(0, end);
            Matcher name = NAME.matcher(head);
            if (!name.find() || head.contains("filename=")) {
                throw new IllegalArgumentException("a part needs a name and no file name");
            }
            byte[] value = pieces[i].substring(end + 4).getBytes(StandardCharsets.ISO_8859_1);
            parts.put(name.group(1), new String(value, StandardCharsets.UTF_8));
        }
        return parts;
    }
}
